"""Encode the voice of every line of dialogue as a vector."""

from mimix_core.stages.voices.stage import STAGE, VoiceInputs, run

__all__ = ["STAGE", "VoiceInputs", "run"]
