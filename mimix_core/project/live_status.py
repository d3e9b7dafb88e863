"""Say how far a run is, in a file that other processes read while it runs.

``<workspace>/live/<id>.json`` has the status; its lock file is held by the run, so that a run that
was killed is not taken for one at work.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from pydantic import ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.engine.locks import exclusive_lock, is_locked

FOLDER = "live"
SECONDS_BETWEEN_WRITES = 1.0


class StageProgress(FrozenModel):
    """How far a stage is. ``done``: units, with parts of those at work; ``note``: the latest.

    Times are seconds since the epoch; ``ended`` is None while it runs.
    """

    stage: str
    units: int
    done: float
    note: str
    started: float
    ended: float | None = None

    def seconds_left(self, now: float) -> float | None:
        """Estimate the time left from the time so far; None before anything is done."""
        if self.ended is not None or not 0 < self.done <= self.units:
            return None
        return (now - self.started) * (self.units / self.done - 1)


class RunProgress(FrozenModel):
    """A run at work. ``flow_run_id``: Prefect's, empty without a server."""

    flow: str
    flow_run_id: str
    process: int
    started: float
    stages: tuple[StageProgress, ...]


class LiveStatusWriter:
    """Writes the progress of one run, at most once a second."""

    def __init__(self, path: Path, flow: str, flow_run_id: str) -> None:
        self._path = path
        self._run = RunProgress(
            flow=flow, flow_run_id=flow_run_id, process=os.getpid(), started=time.time(), stages=()
        )
        self._stages: dict[str, StageProgress] = {}
        self._lock = Lock()
        self._written = 0.0
        self._write()

    def begin(self, stage: str, units: int) -> None:
        """Say that a stage begins."""
        with self._lock:
            self._stages[stage] = StageProgress(
                stage=stage, units=units, done=0, note="", started=time.time()
            )
            self._write()

    def advance(self, stage: str, done: float, note: str) -> None:
        """Say how many units of a stage are done, parts included."""
        with self._lock:
            if stage not in self._stages:
                return
            before = self._stages[stage]
            self._stages[stage] = before.model_copy(update={"done": done, "note": note})
            if time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES:
                self._write()

    def end(self, stage: str) -> None:
        """Say that a stage is over, whether it succeeded or not."""
        with self._lock:
            before = self._stages[stage]
            self._stages[stage] = before.model_copy(update={"ended": time.time()})
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        run = self._run.model_copy(update={"stages": tuple(self._stages.values())})
        # What is only shown must not end a run: with a full disk the page shows an earlier state.
        with suppress(OSError):
            atomic_write_bytes(self._path, run.model_dump_json().encode(), durable=False)


@contextmanager
def live_status(workspace: Path, flow: str, flow_run_id: str) -> Iterator[LiveStatusWriter]:
    """Publish the progress of a run in this context."""
    path = workspace / FOLDER / f"{uuid.uuid4().hex}.json"
    lock = path.with_suffix(".lock")
    _remove_status_of_killed_runs(workspace)
    with exclusive_lock(lock):
        try:
            yield LiveStatusWriter(path, flow, flow_run_id)
        finally:
            path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)


def _remove_status_of_killed_runs(workspace: Path) -> None:
    for path in workspace.glob(f"{FOLDER}/*.json"):
        lock = path.with_suffix(".lock")
        if not is_locked(lock):
            path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)


def read_live_status(workspace: Path) -> list[RunProgress]:
    """Return the runs at work in a workspace, the latest first; changes nothing."""
    runs = []
    for path in workspace.glob(f"{FOLDER}/*.json"):
        try:
            if is_locked(path.with_suffix(".lock")):
                runs.append(RunProgress.model_validate_json(path.read_bytes()))
        except (FileNotFoundError, ValidationError):
            # It has ended, or another version of MiMix writes it.
            continue
    return sorted(runs, key=lambda run: run.started, reverse=True)
