"""Read and check the headers of safetensors files, without their weights and without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mimix_core.errors import BadInput
from mimix_core.wan.model_files import describe_replacement

# The limit of the safetensors library itself.
_MAX_HEADER_BYTES = 100_000_000
# As in PyTorch; the product of very many sizes is a number of as many digits.
_MAX_AXES = 64
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
}


@dataclass(frozen=True)
class TensorEntry:
    """A tensor of a safetensors file: its dtype's name, such as BF16, its shape and its place.

    ``begin`` and ``end``: the half-open range of its bytes in the file.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path, fix: str = "") -> dict[str, TensorEntry]:
    """Read a file's tensors by name, and check that the file is as long as they need.

    Raises BadInput for a file that is incomplete or is not a safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(256)
            length = int.from_bytes(start[:8], "little")
            replacement = describe_replacement(start)
            if replacement is not None:
                raise BadInput(replacement, where=str(path), fix=fix)
            if len(start) < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise BadInput(
                    f"is not a complete safetensors file: {size} bytes, and a header of {length}",
                    where=str(path),
                    fix=fix,
                )
            stream.seek(8)
            text = stream.read(length)
    except FileNotFoundError as error:
        raise BadInput("the file does not exist", where=str(path), fix=fix) from error
    except OSError as error:
        raise BadInput(f"cannot be read ({error.strerror})", where=str(path), fix=fix) from error
    try:
        entries, end = _parse_entries(json.loads(text), 8 + length)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(
            f"has an invalid safetensors header ({error})", where=str(path), fix=fix
        ) from error
    missing = end - size
    if missing > 0:
        raise BadInput(
            f"is incomplete: {missing} of {size + missing} bytes are missing",
            where=str(path),
            fix=fix,
        )
    if missing < 0:
        raise BadInput(
            f"has {-missing} bytes more than its header describes", where=str(path), fix=fix
        )
    return entries


def _parse_entries(header: object, start: int) -> tuple[dict[str, TensorEntry], int]:
    """Return the tensors of a parsed header, whose weights begin at ``start``, and their end."""
    if not isinstance(header, Mapping):
        raise TypeError(f"it is a {type(header).__name__}, not an object")
    entries: dict[str, TensorEntry] = {}
    spans = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if len(entry["shape"]) > _MAX_AXES:
            raise ValueError(f"{name} has more than {_MAX_AXES} axes")
        tensor = TensorEntry(entry["dtype"], tuple(entry["shape"]), start + begin, start + end)
        if not all(type(value) is int and value >= 0 for value in (begin, end, *tensor.shape)):
            raise ValueError(f"shape or offsets of {name} are not whole numbers")
        bits = _BITS.get(tensor.dtype)
        if bits is not None and 8 * (end - begin) != bits * math.prod(tensor.shape):
            raise ValueError(
                f"{name} is {tensor.dtype} of {list(tensor.shape)}, but has {end - begin} bytes"
            )
        entries[name] = tensor
        spans.append((tensor.begin, tensor.end, name))
    position = start
    for begin, end, name in sorted(spans):
        if begin != position:
            raise ValueError(f"the weights of {name} do not follow those before")
        position = end
    return entries, position
