"""Reject clips whose footage an earlier episode already contains."""

from mimix_core.stages.duplicates.stage import (
    STAGE,
    DuplicateInputs,
    deduplicated_clip_tables,
    run,
)

__all__ = ["STAGE", "DuplicateInputs", "deduplicated_clip_tables", "run"]
