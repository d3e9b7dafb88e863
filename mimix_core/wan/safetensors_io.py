"""Read and write safetensors files deterministically: equal tensors give equal bytes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from mimix_core.errors import BadInput


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``tensors`` as a safetensors file.

    Metadata is sorted; the library writes it in the order of a randomly seeded hash map.
    """
    blob = save(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, dict(metadata or {})
    )
    header = _parse(blob)
    begin = 8 + int.from_bytes(blob[:8], "little")
    path.write_bytes(_header(_entries(header), metadata) + blob[begin:])


def merge_tensor_files(path: Path, parts: Mapping[str, Path]) -> None:
    """Write the tensors of several files into one file; ``parts`` maps each name to its file.

    A part may have other tensors too. Tensors are sorted by name and copied byte for byte.
    """
    entries: dict[str, Any] = {}
    begins = {}
    end = 0
    for name in sorted(parts):
        with parts[name].open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            entry = json.loads(stream.read(size))[name]
        begin, behind = entry["data_offsets"]
        entries[name] = {**entry, "data_offsets": [end, end + behind - begin]}
        begins[name] = 8 + size + begin
        end += behind - begin
    with path.open("wb") as merged:
        merged.write(_header(entries, None))
        for name, begin in begins.items():
            first, last = entries[name]["data_offsets"]
            with parts[name].open("rb") as stream:
                stream.seek(begin)
                _copy(stream, merged, last - first)


def digest_tensor(tensor: torch.Tensor) -> str:
    """Compute the SHA-256 of a tensor's stored values, in hex."""
    numbers = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(numbers.numpy().data).hexdigest()


def read_tensor(path: Path, name: str) -> torch.Tensor:
    """Read one tensor of a safetensors file to the CPU, without reading the others.

    Raises BadInput when the file or the tensor is missing or truncated.
    """
    try:
        with safe_open(path, framework="pt") as file:
            # The tensor is a view of the mapped file; the copy outlives the mapping.
            tensor: torch.Tensor = file.get_tensor(name).clone()
    except (OSError, SafetensorError) as error:
        raise BadInput(
            f"{name} cannot be read ({error})",
            where=str(path),
            fix="Run the stage that writes it again.",
        ) from error
    return tensor


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a safetensors file to the CPU."""
    tensors: dict[str, torch.Tensor] = load_file(path)
    return tensors


def count_parameters(path: Path) -> int:
    """Count the parameters in a safetensors file; reads its header only."""
    with path.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(math.prod(entry["shape"]) for entry in _entries(header).values())


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    """Copy ``size`` bytes in chunks."""
    while size > 0:
        chunk = source.read(min(size, 1 << 20))
        if not chunk:
            raise EOFError("the file ends before its tensor does")
        target.write(chunk)
        size -= len(chunk)


def _parse(blob: bytes) -> dict[str, Any]:
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    assert isinstance(header, dict)
    return header


def _entries(header: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def _header(entries: Mapping[str, Any], metadata: Mapping[str, str] | None) -> bytes:
    """Encode a file's header with its length; tensors begin at a multiple of 8 bytes."""
    header = dict(entries)
    if metadata:
        header = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
