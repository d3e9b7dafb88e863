"""Clips at exactly 16 frames per second, cropped and resized to the training size."""

from mimix_core.stages.clips.stage import STAGE, ClipInputs, run

__all__ = ["STAGE", "ClipInputs", "run"]
