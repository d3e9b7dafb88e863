"""Attach every line of dialogue to the character who speaks it, or to none."""

from mimix_core.stages.speakers.stage import STAGE, SpeakerInputs, VoiceRecording, run

__all__ = ["STAGE", "SpeakerInputs", "VoiceRecording", "run"]
