"""Load and save the decisions on datasets: one small file per dataset stage key.

The file keeps every decision, in order, with who made it and when; the last one counts.
"""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.engine.locks import exclusive_lock
from mimix_core.errors import BadInput

FOLDER = "reviews"
_LOCK_FILE = ".lock"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class DatasetDecision(FrozenModel):
    """Decision on a dataset: by whom, when, why, and where it was made.

    ``source`` identifies a form that a run showed; empty for a decision from the shell.
    """

    approved: bool
    note: str = ""
    reviewer: str = ""
    decided_at: datetime = Field(default_factory=_now)
    source: str = ""

    def __str__(self) -> str:
        verdict = "approved" if self.approved else "rejected"
        by = f" by {self.reviewer}" if self.reviewer else ""
        why = f": {self.note}" if self.note else ""
        return f"{verdict}{by} at {self.decided_at:%Y-%m-%d %H:%M} UTC{why}"


class _DecisionFile(FrozenModel):
    decisions: tuple[DatasetDecision, ...]


class _EarlierDecision(FrozenModel):
    """The file's format before it kept several decisions."""

    approved: bool
    note: str = ""


def current_user() -> str:
    """Return the name of the user who runs this process, or the number if it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def load_decisions(workspace: Path, key: str) -> tuple[DatasetDecision, ...]:
    """Load all decisions on the dataset with that stage key, the earliest first.

    Raises BadInput for a file that is not a record of decisions.
    """
    path = workspace / FOLDER / f"{key}.json"
    try:
        content = path.read_bytes()
        decided_at = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
    except FileNotFoundError:
        return ()
    try:
        return _DecisionFile.model_validate_json(content).decisions
    except ValidationError as error:
        try:
            earlier = _EarlierDecision.model_validate_json(content)
        except ValidationError:
            raise BadInput(
                "is not a record of decisions on a dataset",
                where=str(path),
                fix="Remove it and decide again with mimix review.",
            ) from error
    return (DatasetDecision(approved=earlier.approved, note=earlier.note, decided_at=decided_at),)


def load_decision(workspace: Path, key: str) -> DatasetDecision | None:
    """Load the decision that counts on the dataset with that stage key; None if there is none."""
    decisions = load_decisions(workspace, key)
    return decisions[-1] if decisions else None


def save_decision(workspace: Path, key: str, decision: DatasetDecision) -> Path:
    """Add a decision to those on a dataset, and return their file.

    A decision with the ``source`` of an earlier one is that decision again, and not added.
    """
    folder = workspace / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.json"
    with exclusive_lock(folder / _LOCK_FILE):
        decisions = load_decisions(workspace, key)
        if not decision.source or all(d.source != decision.source for d in decisions):
            record = _DecisionFile(decisions=(*decisions, decision))
            atomic_write_bytes(path, record.model_dump_json(indent=1).encode())
    return path
