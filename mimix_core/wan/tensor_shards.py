"""Store precomputed tensors of samples in shards, and resume units that were interrupted.

A shard is one safetensors file of up to ``SHARD_SIZE`` samples, so 52,000 clips need about 800
files. A table's row holds the file, key and digest of a sample's tensor. Reading one tensor maps
the shard and reads only that tensor's bytes.

While a unit runs, each finished tensor is a separate file below the folder of partial results::

    <stage>/<stage key>/<digest of its name>.part     a safetensors file of one tensor
    <stage>/<stage key>/.lock                         locked by the process that runs the unit

A unit that was killed finds them again, because equal inputs and settings have the same key. They
are removed when the stage is complete.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.locks import exclusive_lock, try_exclusive_lock
from mimix_core.errors import BadInput
from mimix_core.tables import EmbeddingRow, LatentRow, LayoutRow, RegionRow, Row

if TYPE_CHECKING:
    import torch

SHARD_SIZE = 64
"""Samples per file: 0.5 GB for latents of 81 x 480 x 832, 50 MB for captions."""

_REMOVED = ".removed"
_LOCK = ".lock"
_DIGEST = "sha256"


class TensorRef(FrozenModel):
    """Reference to the tensor of one sample: shard, key in the shard, and shape."""

    file: Path
    key: str
    shape: tuple[int, ...]


TensorRow = LatentRow | EmbeddingRow | RegionRow | LayoutRow


def tensor_ref(table: TableRef, row: TensorRow) -> TensorRef:
    """Return the reference in a row of a table with tensors."""
    return TensorRef(file=table.folder / row["file"], key=row["key"], shape=tuple(row["shape"]))


def read_latents(ref: TensorRef) -> torch.Tensor:
    """Read latents_CTHW of a sample, fp32 on the CPU. Raises BadInput if missing or damaged."""
    return _read(ref, 4).float()


def read_text(ref: TensorRef) -> torch.Tensor:
    """Read text_LD of a caption without padding, in the text encoder's dtype, on the CPU.

    Raises BadInput if it is missing or damaged.
    """
    return _read(ref, 2)


def read_regions(ref: TensorRef) -> torch.Tensor:
    """Read regions_KTHW of a sample, bool on the CPU: the cells of each of its characters.

    Raises BadInput if they are missing or damaged.
    """
    return _read(ref, 4).bool()


def _read(ref: TensorRef, axes: int) -> torch.Tensor:
    from mimix_core.wan import safetensors_io

    tensor = safetensors_io.read_tensor(ref.file, ref.key)
    if tuple(tensor.shape) != ref.shape or tensor.ndim != axes:
        raise BadInput(
            f"{ref.key} has shape {list(tensor.shape)}, expected {list(ref.shape)}",
            where=str(ref.file),
            fix="Run the stage that writes it again.",
        )
    return tensor


class TensorLocation(FrozenModel):
    """Location of a tensor relative to its table, with shape and digest."""

    file: str
    key: str
    shape: tuple[int, ...]
    sha256: str

    def columns(self) -> Row:
        """Return the columns of a row that reference the tensor."""
        return {**self.model_dump(), "shape": list(self.shape)}


NO_TENSOR: Row = {"file": "", "key": "", "shape": [], "sha256": ""}
"""The columns of a row without a tensor."""


@dataclass(frozen=True)
class PartialResult:
    """A finished tensor: in a file of its own, or in a shard of an earlier result."""

    path: Path
    shape: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class PartialResults:
    """The finished tensors of a running unit, by key."""

    folder: Path

    def get(self, key: str) -> PartialResult | None:
        """Return the tensor of that key; None if it is missing or its digest does not match.

        The digest detects files that a machine crash left incomplete.
        """
        from safetensors import SafetensorError, safe_open

        from mimix_core.wan import safetensors_io

        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                tensor = file.get_tensor(key)
                digest = (file.metadata() or {}).get(_DIGEST)
        except (OSError, SafetensorError):
            return None
        if safetensors_io.digest_tensor(tensor) != digest:
            return None
        return PartialResult(path, tuple(tensor.shape), digest)

    def put(self, key: str, tensor: torch.Tensor) -> PartialResult:
        """Write a finished tensor atomically."""
        from mimix_core.wan import safetensors_io

        digest = safetensors_io.digest_tensor(tensor)
        path = self._path(key)
        temporary = path.with_suffix(".tmp")
        safetensors_io.write_tensors(temporary, {key: tensor}, {_DIGEST: digest})
        temporary.replace(path)
        return PartialResult(path, tuple(tensor.shape), digest)

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.part"


@contextmanager
def open_partial_results(root: Path, stage: str, key: str) -> Iterator[PartialResults]:
    """Open the partial results of the unit with that stage key, waiting for other processes."""
    folder = root / stage / key
    with exclusive_lock(folder / _LOCK):
        yield PartialResults(folder)


def remove_stale_results(root: Path, stage: str) -> None:
    """Remove the partial results of a stage's units, except those of running units.

    Call it when the stage is complete: the remaining results are committed, or belong to runs that
    were killed and not resumed.
    """
    if not (root / stage).is_dir():
        return
    # Several runs of a workspace may come here at once: one removes, the others find nothing left.
    with exclusive_lock(root / f"{stage}.lock"):
        for folder in sorted(path for path in (root / stage).glob("*") if path.is_dir()):
            if folder.suffix == _REMOVED:  # left by a run that was killed meanwhile
                shutil.rmtree(folder)
                continue
            lock = try_exclusive_lock(folder / _LOCK)
            if lock is not None:
                with lock:
                    # Renamed first: a run that begins this unit now makes a folder of its own.
                    removed = folder.with_suffix(_REMOVED)
                    folder.rename(removed)
                    shutil.rmtree(removed)


def write_shards(
    out: Path, folder: str, results: Mapping[str, PartialResult]
) -> dict[str, TensorLocation]:
    """Merge tensors into shards ``folder``/00000.safetensors, ...; return their locations.

    The order depends on the names alone, so an interrupted and resumed unit writes the same bytes
    as an uninterrupted one.
    """
    from mimix_core.wan import safetensors_io

    locations = {}
    (out / folder).mkdir()
    names = sorted(results)
    for begin in range(0, len(names), SHARD_SIZE):
        keys = names[begin : begin + SHARD_SIZE]
        file = f"{folder}/{begin // SHARD_SIZE:05d}.safetensors"
        safetensors_io.merge_tensor_files(out / file, {key: results[key].path for key in keys})
        for key in keys:
            result = results[key]
            locations[key] = TensorLocation(
                file=file, key=key, shape=result.shape, sha256=result.sha256
            )
    return locations
