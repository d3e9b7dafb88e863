"""A person's decisions on datasets: one small file each, by the dataset's stage key."""

from __future__ import annotations

import os
from pathlib import Path

from mimix_core.engine.artifacts import FrozenModel

FOLDER = "reviews"


class DatasetDecision(FrozenModel):
    """What was decided on a dataset, and why."""

    approved: bool
    note: str = ""


def load_decision(workspace: Path, key: str) -> DatasetDecision | None:
    """The decision on the dataset of that stage key; None when there is none."""
    try:
        return DatasetDecision.model_validate_json(
            (workspace / FOLDER / f"{key}.json").read_bytes()
        )
    except FileNotFoundError:
        return None


def save_decision(workspace: Path, key: str, decision: DatasetDecision) -> Path:
    """Keep a decision, in place of the one before. Whole or not at all."""
    path = workspace / FOLDER / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(decision.model_dump_json(indent=1))
    part.replace(path)
    return path
