"""Check the weight files of a network before any work: complete, of the right shapes, finite.

Only indexes, headers and samples of the values are read; ``check_finite_weights`` reads all values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimix_core.engine.input_files import file_exists
from mimix_core.errors import BadInput
from mimix_core.wan.expected_tensors import TOKEN_TABLES, Shapes
from mimix_core.wan.model_files import list_folder, read_json
from mimix_core.wan.safetensors_header import TensorEntry, read_header

_SUFFIX, _INDEX_SUFFIX = ".safetensors", ".safetensors.index.json"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_BLOCK = re.compile(
    r"(?P<blocks>(?:.+\.)?(?:blocks|transformer_blocks|block|layers))\.(?P<number>\d{1,9})\..+"
)
_VALUES_PER_CHECK = 1 << 24
_SAMPLED_BYTES = 16_384
"""Bytes of each tensor that are read: all of a norm or a bias, the beginning of a matrix."""

_FLOAT_DTYPES = ("F64", "F32", "BF16", "F16", "F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a network's weights: its file, and what the file's header says of it."""

    path: Path
    entry: TensorEntry


StoredTensors = Mapping[str, StoredTensor]


def list_tensors(folder: Path, fix: str = "") -> dict[str, StoredTensor]:
    """Return each tensor of a network with its file, by the tensor's name.

    Raises BadInput for missing, incomplete or additional weight files, and for an index that does
    not match them.
    """
    members = list_folder(folder, fix)
    files = [path for path in members if path.name.endswith(_SUFFIX)]
    indexes = [path for path in members if path.name.endswith(_INDEX_SUFFIX)]
    if not files and not indexes:
        raise BadInput(
            "no safetensors file",
            where=str(folder),
            fix=f"Only safetensors weights are supported. {fix}".strip(),
        )
    if len(indexes) > 1:
        names = ", ".join(path.name for path in indexes)
        raise BadInput(f"has several indexes: {names}", where=str(folder), fix="Keep one of them.")
    if indexes:
        return _indexed_tensors(folder, files, indexes[0], fix)
    for path in files:
        shard = _SHARD.fullmatch(path.name)
        if shard is not None:
            raise BadInput(
                f"{path.name} is one of {int(shard['count'])} files, but their index "
                f"{shard['stem']}.safetensors.index.json is missing",
                where=str(folder),
                fix=fix,
            )
    if len(files) > 1:
        raise BadInput(
            f"has {len(files)} weight files and no index: {', '.join(path.name for path in files)}",
            where=str(folder),
            fix="Keep the one that belongs to the model.",
        )
    return {
        name: StoredTensor(files[0], entry) for name, entry in read_header(files[0], fix).items()
    }


def check_finite_weights(folder: Path) -> None:
    """Raise BadInput if a network's weights contain NaN or Inf; reads all weights."""
    import torch
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                if not tensor.is_floating_point():
                    continue
                if tensor.element_size() == 1:
                    tensor = tensor.to(torch.bfloat16)
                for part in tensor.flatten().split(_VALUES_PER_CHECK):
                    if not bool(part.isfinite().all()):
                        raise BadInput(
                            f"the weights contain non-finite values (NaN or Inf) in {name}",
                            where=str(path),
                            fix="Download or convert the model again.",
                        )


def check_tensors(folder: Path, tensors: StoredTensors, expected: Shapes, fix: str) -> None:
    """Raise BadInput unless the weights have every expected tensor, in its shape, of numbers.

    Additional tensors are allowed. Either name of a token table will do.
    """
    first, second = TOKEN_TABLES
    for name, shape in expected.items():
        stored = tensors.get(name)
        if stored is None and name == first:
            stored = tensors.get(second)
        if stored is None:
            raise BadInput(f"the weights lack {name}", where=str(folder), fix=fix)
        if stored.entry.shape != shape:
            raise BadInput(
                f"{name} has the shape {list(stored.entry.shape)}, but its config needs "
                f"{list(shape)}",
                where=str(stored.path),
                fix=fix,
            )
        if stored.entry.dtype not in _FLOAT_DTYPES:
            raise BadInput(
                f"{name} has the data type {stored.entry.dtype}, not one of "
                f"{', '.join(_FLOAT_DTYPES)}",
                where=str(stored.path),
                fix="Only unquantized weights are supported. " + fix,
            )


def check_sampled_values(tensors: StoredTensors, fix: str) -> None:
    """Raise BadInput for NaN or Inf at the beginning of a tensor, and for two token tables.

    Damage of whole tensors or pages is found in milliseconds, that of single values only by
    ``check_finite_weights``. A text encoder with both names of its token table must have equal
    values in both.
    """
    for name, values in _sample_values(tensors, fix):
        if _has_non_finite(values, tensors[name].entry.dtype):
            raise BadInput(
                f"the weights contain non-finite values (NaN or Inf) in {name}",
                where=str(tensors[name].path),
                fix=fix,
            )
    first, second = (tensors.get(name) for name in TOKEN_TABLES)
    if first is None or second is None:
        return
    same_layout = (first.entry.shape, first.entry.dtype) == (second.entry.shape, second.entry.dtype)
    if not same_layout or not _equal_samples(first, second, fix):
        raise BadInput(
            f"its two token tables differ: {TOKEN_TABLES[0]} and {TOKEN_TABLES[1]} must be equal",
            where=str(second.path),
            fix=fix,
        )


def _sample_values(tensors: StoredTensors, fix: str) -> Iterator[tuple[str, bytes]]:
    """Yield the first bytes of each tensor, file by file in the order of their places."""
    by_file: dict[Path, list[str]] = {}
    for name, stored in tensors.items():
        by_file.setdefault(stored.path, []).append(name)
    for path, names in by_file.items():
        with _readable(path, fix) as read:
            for name in sorted(names, key=lambda name: tensors[name].entry.begin):
                entry = tensors[name].entry
                yield name, read(entry.begin, min(_SAMPLED_BYTES, entry.end - entry.begin))


def _equal_samples(first: StoredTensor, second: StoredTensor, fix: str) -> bool:
    """Compare both tables at 64 places, and at their ends."""
    size = first.entry.end - first.entry.begin
    length = min(_SAMPLED_BYTES, size)
    places = sorted({(size - length) * place // 64 for place in range(65)})
    with _readable(first.path, fix) as one, _readable(second.path, fix) as other:
        return all(
            one(first.entry.begin + place, length) == other(second.entry.begin + place, length)
            for place in places
        )


@contextmanager
def _readable(path: Path, fix: str) -> Iterator[Callable[[int, int], bytes]]:
    """Yield a function that reads bytes of a file by offset and length. Raises BadInput."""
    try:
        with path.open("rb", buffering=0) as stream:

            def read(offset: int, length: int) -> bytes:
                return os.pread(stream.fileno(), length, offset)

            yield read
    except OSError as error:
        raise BadInput(f"cannot be read ({error.strerror})", where=str(path), fix=fix) from error


def _has_non_finite(values: bytes, dtype: str) -> bool:
    """Return whether stored numbers have an exponent of only ones, which means NaN or Inf."""
    pattern = _NON_FINITE.get(dtype)
    if pattern is None:
        return False
    numbers, mask = np.frombuffer(values, pattern[0]), pattern[1]
    found: np.bool_ = ((numbers & mask) == mask).any()
    return bool(found)


# Unsigned type of each dtype, and the bits of its exponent; e4m3 has no Inf, and one NaN.
_NON_FINITE: dict[str, tuple[str, int]] = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "BF16": ("<u2", 0x7F80),
    "F16": ("<u2", 0x7C00),
    "F8_E5M2": ("u1", 0x7C),
    "F8_E4M3": ("u1", 0x7F),
}


def _indexed_tensors(
    folder: Path, files: list[Path], index: Path, fix: str
) -> dict[str, StoredTensor]:
    """Return each tensor by an index, compared with the headers of its files."""
    weights = read_index(index, fix)
    shards = {folder / file for file in weights.values()}
    missing = sorted(path.name for path in shards if not file_exists(path))
    if missing:
        raise BadInput(
            f"{len(missing)} of {len(shards)} weight files of its index are missing: "
            f"{', '.join(missing)}",
            where=str(folder),
            fix=fix,
        )
    extra = sorted(path.name for path in files if path not in shards)
    if extra:
        raise BadInput(
            f"has weight files that are not in its index {index.name}: {', '.join(extra)}",
            where=str(folder),
            fix="Remove them, or download the model again.",
        )
    stored = {path: read_header(path, fix) for path in sorted(shards)}
    for name, file in sorted(weights.items()):
        if name not in stored[folder / file]:
            raise BadInput(
                f"the index expects {name} in {file}, which does not hold it",
                where=str(index),
                fix=fix,
            )
    for path, names in stored.items():
        unlisted = sorted(name for name in names if weights.get(name) != path.name)
        if unlisted:
            raise BadInput(
                f"{path.name} holds {unlisted[0]}, which the index does not expect in it",
                where=str(index),
                fix=fix,
            )
    return {
        name: StoredTensor(folder / file, stored[folder / file][name])
        for name, file in weights.items()
    }


def read_index(path: Path, fix: str) -> dict[str, str]:
    """Read which file holds each tensor. Raises BadInput."""
    try:
        weights = read_json(path, fix)["weight_map"]
        valid = all(isinstance(file, str) and Path(file).name == file for file in weights.values())
    except (TypeError, KeyError, AttributeError) as error:
        raise BadInput(
            f"cannot be read as an index of weight files ({type(error).__name__}: {error})",
            where=str(path),
            fix=fix,
        ) from error
    if not valid or not weights:
        raise BadInput("names no files next to it", where=str(path), fix=fix)
    return dict(weights)


def check_blocks(folder: Path, tensors: StoredTensors, config: Mapping[str, Any], fix: str) -> None:
    """Raise BadInput if the weights lack a block in the middle or at the end."""
    numbers: dict[str, set[int]] = {}
    for name in tensors:
        match = _BLOCK.fullmatch(name)
        if match is not None:
            numbers.setdefault(match["blocks"], set()).add(int(match["number"]))
    for blocks, found in sorted(numbers.items()):
        count = max(found) + 1
        if blocks in ("blocks", "transformer_blocks", "encoder.block"):
            layers = config.get("num_layers", 0)
            if type(layers) is not int:
                raise BadInput(
                    f"num_layers is {layers!r}, not a whole number",
                    where=str(folder / "config.json"),
                    fix=fix,
                )
            count = max(count, layers)
        if len(found) < count:
            first = next(number for number in range(count) if number not in found)
            raise BadInput(
                f"the weights lack {count - len(found)} of {count} {blocks}, first: "
                f"{blocks}.{first}",
                where=str(folder),
                fix=fix,
            )
