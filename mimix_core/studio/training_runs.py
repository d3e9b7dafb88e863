"""Read the training runs of a workspace: losses, speed and previews, also while they run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimix_core.engine.jsonl_log import MalformedLog, read_records

LOG_FILE, SPEED_FILE = "log.jsonl", "speed.jsonl"
JOURNAL = "journal"


@dataclass(frozen=True)
class TrainingRun:
    """A training run: its key and the folder of its log and previews.

    ``finished``: its adapter is in the store.
    """

    key: str
    folder: Path
    finished: bool

    @property
    def title(self) -> str:
        return f"Training {self.key[:8]}"

    def records(self) -> list[dict[str, Any]]:
        """Return the records of its log (mimix_core/training/run_logger.py); none if damaged."""
        return _read(self.folder / LOG_FILE)

    def speed(self) -> list[dict[str, Any]]:
        """Return the timings of its steps; none without a journal."""
        return _read(self.folder / SPEED_FILE)

    def preview(self, name: str) -> Path | None:
        """Return the path of a preview that the log names; None if it is not in the folder."""
        path = Path(os.path.normpath(self.folder / name))
        return path if path.is_relative_to(self.folder) and path.is_file() else None

    def version(self) -> int:
        """Return when its log was written last, in ns; 0 if it is gone."""
        return _written_at(self.folder / LOG_FILE)


def find_training_runs(workspace: Path) -> list[TrainingRun]:
    """Return the training runs of a workspace, the latest first.

    A run's journal is preferred to the copy in the store, which has no timings.
    """
    runs: dict[str, TrainingRun] = {}
    for log in workspace.glob(f"store/lora/*/{LOG_FILE}"):
        runs[log.parent.name] = TrainingRun(log.parent.name, log.parent, finished=True)
    for log in workspace.glob(f"checkpoints/*/{JOURNAL}/{LOG_FILE}"):
        key = log.parent.parent.name
        runs[key] = TrainingRun(key, log.parent, finished=key in runs)
    found = [run for run in runs.values() if run.version()]
    return sorted(found, key=lambda run: (run.version(), run.key), reverse=True)


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return read_records(path, lambda record: isinstance(record["step"], int))
    except (MalformedLog, FileNotFoundError):
        # Rewritten at this moment, or by a program that is not MiMix.
        return []
