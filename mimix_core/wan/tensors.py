"""Safetensors files whose bytes depend on nothing but their content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save


def write(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``tensors`` as a safetensors file.

    The library writes metadata in the order of a randomly seeded hash map; here it is sorted.
    """
    blob = save(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, dict(metadata or {})
    )
    size = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + size])
    if metadata:
        header = {"__metadata__": dict(sorted(metadata.items())), **_entries(header)}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + blob[8 + size :])


def read(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, on the CPU."""
    tensors: dict[str, torch.Tensor] = load_file(path)
    return tensors


def parameters(path: Path) -> int:
    """How many numbers a safetensors file holds; reads its header only."""
    with path.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    total = 0
    for entry in _entries(header).values():
        count = 1
        for length in entry["shape"]:
            count *= length
        total += count
    return total


def _entries(header: dict[str, dict[str, list[int]]]) -> dict[str, dict[str, list[int]]]:
    return {name: entry for name, entry in header.items() if name != "__metadata__"}
