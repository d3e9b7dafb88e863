"""Assign dialogue to clips: from a subtitle file, a subtitle stream or speech recognition.

Source: paper, section 3.1 (the captioner is given the dialogue).
"""

from mimix_core.stages.transcripts.stage import STAGE, TranscriptInputs, run

__all__ = ["STAGE", "TranscriptInputs", "run"]
