"""Load and save the user's decisions on datasets: one small file per dataset stage key."""

from __future__ import annotations

from pathlib import Path

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import atomic_write_bytes

FOLDER = "reviews"


class DatasetDecision(FrozenModel):
    """Decision on a dataset, and the reason for it."""

    approved: bool
    note: str = ""


def load_decision(workspace: Path, key: str) -> DatasetDecision | None:
    """Load the decision on the dataset with that stage key; None if there is none."""
    try:
        return DatasetDecision.model_validate_json(
            (workspace / FOLDER / f"{key}.json").read_bytes()
        )
    except FileNotFoundError:
        return None


def save_decision(workspace: Path, key: str, decision: DatasetDecision) -> Path:
    """Save a decision atomically, replacing an earlier one, and return its file."""
    path = workspace / FOLDER / f"{key}.json"
    atomic_write_bytes(path, decision.model_dump_json(indent=1).encode())
    return path
