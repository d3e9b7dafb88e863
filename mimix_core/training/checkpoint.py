"""Checkpoints of a training run: written whole or not at all, and found again by themselves.

Layout below the run's folder::

    step-000010/state.safetensors    adapters, AdamW's moments, and the running mean if there is one
    step-000010/checkpoint.json      written last: the step, and the digest of the above
    .step-000020.<random>/           being written, or left behind by a process that died
    .lock                            held by the process that writes here
    journal/                         what ``watch`` writes

Nothing else needs to be kept: the learning rate, the data's order, noise levels and noise are
functions of the step, and no draw depends on an earlier one. The frozen weights are not in it.
"""

from __future__ import annotations

import fcntl
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
from mimix_core.engine.atomic_io import fsync_path
from mimix_core.errors import StageFailed, Transient

if TYPE_CHECKING:
    import torch

FORMAT = 1
STATE_FILE = "state.safetensors"
RECORD_FILE = "checkpoint.json"
_LOCK_FILE = ".lock"
_POLL_SECONDS = 0.2


class CheckpointRecord(FrozenModel):
    """What ``checkpoint.json`` says."""

    format: int
    step: int
    sha256: str
    size: int


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, after ``step`` optimizer steps."""

    step: int
    folder: Path

    def load_tensors(self) -> dict[str, torch.Tensor]:
        """Its tensors, on the CPU."""
        from safetensors.torch import load_file

        tensors: dict[str, torch.Tensor] = load_file(self.folder / STATE_FILE)
        return tensors


@contextmanager
def lock_run(root: Path, patience_seconds: float) -> Iterator[None]:
    """Be the only one to write checkpoints there; also clears away what dead processes left.

    Raises Transient when another process still holds it after ``patience_seconds``.
    """
    root.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience_seconds
    with (root / _LOCK_FILE).open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise Transient(f"another process trains this run: it holds {root}") from error
            time.sleep(_POLL_SECONDS)
        for left in root.glob(".step-*"):
            shutil.rmtree(left)
        yield


def write_checkpoint(
    root: Path, step: int, state: Mapping[str, torch.Tensor], keep: int
) -> Checkpoint:
    """Write a checkpoint and remove all but the newest ``keep``. The caller holds ``root``.

    It has its name only once all of it is on disk; a whole one of that step stays. Raises
    StageFailed when it cannot be written; the ones before are as they were.
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
        kept = f"the one after step {last.step} is whole" if last else "there is none yet"
        size = sum(value.numel() * value.element_size() for value in state.values())
        raise StageFailed(
            f"the checkpoint after step {step} ({size / 1e9:.2f} GB) cannot be written to {root}: "
            f"{error}; {kept}. Make room and start again: training goes on from there"
        ) from error
    for old in _folders(root)[keep:]:
        shutil.rmtree(old)
    return Checkpoint(step, final)


def latest_checkpoint(root: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint; ``warn`` is told of each newer one that is broken."""
    for folder in _folders(root):
        problem = _problem(folder)
        if problem is None:
            return Checkpoint(_step(folder), folder)
        warn(f"checkpoint {folder} is broken ({problem}); going on from an older one")
    return None


def delete_checkpoints(root: Path) -> None:
    """Remove a run's checkpoints, once its result is committed; its journal stays."""
    for folder in [*_folders(root), *root.glob(".step-*")]:
        shutil.rmtree(folder)


def _problem(folder: Path) -> str | None:
    """What is wrong with a checkpoint, if anything is."""
    path = folder / STATE_FILE
    try:
        record = CheckpointRecord.model_validate_json((folder / RECORD_FILE).read_bytes())
        size = path.stat().st_size
    except (OSError, ValidationError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    if (record.format, record.step) != (FORMAT, _step(folder)):
        return f"it says format {record.format}, step {record.step}"
    if size != record.size or digest_file(path) != record.sha256:
        return f"{STATE_FILE} is not as it was written"
    return None


def _folders(root: Path) -> list[Path]:
    """All checkpoints, whole or not, the newest first."""
    return sorted(root.glob("step-*"), key=_step, reverse=True)


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))
