"""Assemble the training manifest: split by episode, composites at an exact ratio."""

from mimix_core.stages.dataset.stage import (
    STAGE,
    DatasetInputs,
    describe_empty_validation,
    describe_shortfall,
    run,
)

__all__ = ["STAGE", "DatasetInputs", "describe_empty_validation", "describe_shortfall", "run"]
