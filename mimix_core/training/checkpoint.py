"""Checkpoints of a training run, written atomically and found by scanning the run's folder.

Layout below the run's folder::

    step-000010/state.safetensors    adapters, AdamW's moments, and the EMA weights if enabled
    step-000010/checkpoint.json      written last: step, and digest of the tensors
    .step-000020.<random>/           incomplete: being written, or left by a process that died
    epochs/                          adapters of earlier epochs (``epoch_adapters``)
    within-bound/                    the last adapter that forgets little (``forgetting``)
    .lock                            locked by the process that writes here
    journal/                         the files of ``run_logger``

No other state is needed: learning rate, data order, noise levels and noise are functions of the
step, and no random draw depends on an earlier one. The frozen weights are not included.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mimix_core.engine.artifacts import FrozenModel, digest_file
from mimix_core.engine.atomic_io import fsync_path, make_folder
from mimix_core.engine.locks import try_exclusive_lock
from mimix_core.errors import StageFailed, Transient

if TYPE_CHECKING:
    import torch

FORMAT = 1
STATE_FILE = "state.safetensors"
RECORD_FILE = "checkpoint.json"
EPOCH_FOLDER = "epochs"
WITHIN_BOUND_FOLDER = "within-bound"
_LOCK_FILE = ".lock"
_POLL_SECONDS = 0.2


class CheckpointRecord(FrozenModel):
    """Content of ``checkpoint.json``."""

    format: int
    step: int
    sha256: str
    size: int


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint, after ``step`` optimizer steps."""

    step: int
    folder: Path

    def load_tensors(self) -> dict[str, torch.Tensor]:
        """Load its tensors to the CPU."""
        from safetensors.torch import load_file

        tensors: dict[str, torch.Tensor] = load_file(self.folder / STATE_FILE)
        return tensors


@contextmanager
def lock_run(root: Path, timeout_seconds: float) -> Iterator[None]:
    """Lock the run's folder for writing checkpoints; also remove incomplete ones of dead processes.

    Raises Transient when another process still holds the lock after ``timeout_seconds``.
    """
    make_folder(root)
    deadline = time.monotonic() + timeout_seconds
    while (lock := try_exclusive_lock(root / _LOCK_FILE)) is None:
        if time.monotonic() > deadline:
            raise Transient(f"another process is training this run (lock on {root})")
        time.sleep(_POLL_SECONDS)
    with lock:
        for incomplete in root.glob(".step-*"):
            shutil.rmtree(incomplete)
        yield


def write_checkpoint(
    root: Path, step: int, state: Mapping[str, torch.Tensor], keep: int
) -> Checkpoint:
    """Write a checkpoint and remove all but the newest ``keep``; the caller holds the lock.

    It gets its final name when it is completely on disk; a complete checkpoint of that step is not
    replaced. Raises StageFailed when it cannot be written; earlier checkpoints are not affected.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    final = root / _name(step)
    if final.exists() and _problem(final) is None:
        return Checkpoint(step, final)
    unfinished = None
    try:
        unfinished = Path(tempfile.mkdtemp(prefix=f".{_name(step)}.", dir=root))
        path = unfinished / STATE_FILE
        save_file(dict(state), path)
        fsync_path(path)
        record = CheckpointRecord(
            format=FORMAT, step=step, sha256=digest_file(path), size=path.stat().st_size
        )
        (unfinished / RECORD_FILE).write_text(record.model_dump_json(indent=1))
        fsync_path(unfinished / RECORD_FILE)
        fsync_path(unfinished)
        if final.exists():
            shutil.rmtree(final)
        unfinished.rename(final)
        fsync_path(root)
    except (OSError, SafetensorError) as error:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
        last = latest_checkpoint(root, lambda _: None)
        available = (
            f"the latest complete checkpoint is after step {last.step}"
            if last
            else "no checkpoint exists yet"
        )
        size = sum(value.numel() * value.element_size() for value in state.values())
        raise StageFailed(
            f"the checkpoint after step {step} ({size / 1e9:.2f} GB) cannot be written to {root}: "
            f"{error}; {available}. Free disk space and start again: training resumes from there"
        ) from error
    for old in _folders(root)[keep:]:
        shutil.rmtree(old)
    return Checkpoint(step, final)


def latest_checkpoint(root: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Return the latest complete checkpoint; call ``warn`` for each newer damaged one."""
    for folder in _folders(root):
        problem = _problem(folder)
        if problem is None:
            return Checkpoint(_step(folder), folder)
        warn(f"checkpoint {folder} is damaged ({problem}); resuming from an older one")
    return None


def delete_checkpoints(root: Path) -> None:
    """Delete a run's checkpoints and earlier adapters once its result is committed; logs stay."""
    kept = [*root.glob(EPOCH_FOLDER), *root.glob(WITHIN_BOUND_FOLDER)]
    for folder in [*_folders(root), *root.glob(".step-*"), *kept]:
        shutil.rmtree(folder)


def _problem(folder: Path) -> str | None:
    """Return why a checkpoint is unusable; None for a complete one."""
    path = folder / STATE_FILE
    try:
        record = CheckpointRecord.model_validate_json((folder / RECORD_FILE).read_bytes())
        size = path.stat().st_size
    except (OSError, ValidationError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    if (record.format, record.step) != (FORMAT, _step(folder)):
        return f"its record has format {record.format}, step {record.step}"
    if size != record.size or digest_file(path) != record.sha256:
        return f"{STATE_FILE} does not match its digest"
    return None


def _folders(root: Path) -> list[Path]:
    """List all checkpoints, complete or not, the newest first."""
    return sorted(root.glob("step-*"), key=_step, reverse=True)


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))
