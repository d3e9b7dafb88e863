"""Reject clips whose footage an earlier episode already contains."""

from mimix_core.stages.duplicates.stage import STAGE, DuplicateInputs, episode_tables, run

__all__ = ["STAGE", "DuplicateInputs", "episode_tables", "run"]
