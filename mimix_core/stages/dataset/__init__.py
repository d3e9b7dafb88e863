"""Assemble the training manifest: split by episode, composites at an exact ratio."""

from mimix_core.stages.dataset.stage import STAGE, DatasetInputs, run, shortfall

__all__ = ["STAGE", "DatasetInputs", "run", "shortfall"]
