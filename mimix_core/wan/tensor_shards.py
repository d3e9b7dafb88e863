"""What is computed once of every sample: tensors in shards, and how a killed unit goes on.

A shard is one safetensors file of up to ``SHARD`` samples, so that 52,000 clips are some 800 files
and not 52,000; a table's row says in which file, under which name and with which digest a sample's
tensor lies. Reading one maps the shard and touches that tensor's bytes alone.

While a unit is under way each finished tensor is a file of its own below the folder of parts::

    <stage>/<stage key>/<digest of its name>.part     a safetensors file of one tensor
    <stage>/<stage key>/.lock                         locked by the process that works on the unit

A unit that was killed finds them again, since the same inputs and settings have the same key. They
are swept when the stage is through.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.errors import BadInput
from mimix_core.tables import Row

if TYPE_CHECKING:
    import torch

SHARD = 64
"""Samples of one file: 0.5 GB of latents of 81 x 480 x 832, 50 MB of captions."""

_LOCK = ".lock"
_DIGEST = "sha256"


class TensorRef(FrozenModel):
    """Where the tensor of one sample lies: a shard, its name in there, and its shape."""

    file: Path
    key: str
    shape: tuple[int, ...]


def tensor_ref(table: TableRef, row: Row) -> TensorRef:
    """The reference that a row of the latents or the embeddings table holds."""
    return TensorRef(file=table.folder / row["file"], key=row["key"], shape=tuple(row["shape"]))


def read_latents(ref: TensorRef) -> torch.Tensor:
    """latents_CTHW of a sample, fp32, on the CPU. Raises BadInput when it is not there or whole."""
    return _read(ref, 4).float()


def read_text(ref: TensorRef) -> torch.Tensor:
    """text_LD of a caption, cut to its true length, in the text encoder's type, on the CPU.

    Raises BadInput when it is not there or whole.
    """
    return _read(ref, 2)


def _read(ref: TensorRef, axes: int) -> torch.Tensor:
    from mimix_core.wan import safetensors_io

    tensor = safetensors_io.read_one(ref.file, ref.key)
    if tuple(tensor.shape) != ref.shape or tensor.ndim != axes:
        raise BadInput(
            f"{ref.key} has the shape {list(tensor.shape)}, not {list(ref.shape)}",
            where=str(ref.file),
            fix="Run the stage that makes it again.",
        )
    return tensor


class Place(FrozenModel):
    """Where a tensor lies in a result, relative to its table, and what it is."""

    file: str
    key: str
    shape: tuple[int, ...]
    sha256: str

    def columns(self) -> Row:
        """The columns of a row that name it."""
        return {**self.model_dump(), "shape": list(self.shape)}


NOWHERE: Row = {"file": "", "key": "", "shape": [], "sha256": ""}
"""The columns of a row that has no tensor."""


@dataclass(frozen=True)
class Part:
    """A finished tensor of a unit under way."""

    path: Path
    shape: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class Parts:
    """The finished tensors of one unit."""

    folder: Path

    def find(self, key: str) -> Part | None:
        """The part of that name, if there is one and its bytes are those that were written.

        The digest was written with it: what a crash of the machine left half on disk is not found.
        """
        from safetensors import SafetensorError, safe_open

        from mimix_core.wan import safetensors_io

        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                tensor = file.get_tensor(key)
                written = (file.metadata() or {}).get(_DIGEST)
        except (OSError, SafetensorError):
            return None
        if safetensors_io.digest(tensor) != written:
            return None
        return Part(path, tuple(tensor.shape), written)

    def keep(self, key: str, tensor: torch.Tensor) -> Part:
        """Put a finished tensor on disk, whole or not at all should the process die."""
        from mimix_core.wan import safetensors_io

        digest = safetensors_io.digest(tensor)
        path = self._path(key)
        unfinished = path.with_suffix(".tmp")
        safetensors_io.write(unfinished, {key: tensor}, {_DIGEST: digest})
        unfinished.replace(path)
        return Part(path, tuple(tensor.shape), digest)

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.part"


@contextmanager
def unit_parts(root: Path, stage: str, key: str) -> Iterator[Parts]:
    """The parts of the unit with that stage key. Whoever else works on it now is waited for."""
    folder = root / stage / key
    descriptor = _hold(folder)
    try:
        yield Parts(folder)
    finally:
        os.close(descriptor)


def sweep(root: Path, stage: str) -> None:
    """Remove the parts of all units of a stage, but those that are being worked on.

    To be called when the stage is through: what is left then is committed, or of runs that were
    killed and never went on.
    """
    for folder in sorted(path for path in (root / stage).glob("*") if path.is_dir()):
        with (folder / _LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its owner lives
            shutil.rmtree(folder)


def write_shards(out: Path, folder: str, parts: Mapping[str, Part]) -> dict[str, Place]:
    """Join the parts into shards ``folder``/00000.safetensors and on; gives each one's place.

    Which part comes where depends on the names alone, so a unit that was killed and went on writes
    the same bytes as one that was not.
    """
    from mimix_core.wan import safetensors_io

    places = {}
    (out / folder).mkdir()
    names = sorted(parts)
    for begin in range(0, len(names), SHARD):
        keys = names[begin : begin + SHARD]
        file = f"{folder}/{begin // SHARD:05d}.safetensors"
        safetensors_io.join(out / file, {key: parts[key].path for key in keys})
        for key in keys:
            part = parts[key]
            places[key] = Place(file=file, key=key, shape=part.shape, sha256=part.sha256)
    return places


def _hold(folder: Path) -> int:
    """The descriptor of the folder's lock, held. A folder swept in between is made again."""
    path = folder / _LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the locked file still has this name: sweeping takes it away."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
