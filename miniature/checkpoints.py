"""Checkpoints in files of at most 16 MiB, with a digest: the way they can be carried anywhere."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

PART_BYTES = 15 * 2**20
_SMALL = 4096


class DamagedCheckpoint(RuntimeError):
    """A part of a checkpoint is missing or changed."""


def save(folder: Path, name: str, content: Mapping[str, Any], part_bytes: int = PART_BYTES) -> None:
    """Write tensors and plain values as ``name.json`` and ``name.000``, ``name.001``, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    data = buffer.getvalue()
    # Without its record a checkpoint counts as not there, so none is read while it is written.
    (folder / f"{name}.json").unlink(missing_ok=True)
    for old in folder.glob(f"{name}.[0-9][0-9][0-9]"):
        old.unlink()
    parts = [data[start : start + part_bytes] for start in range(0, len(data), part_bytes)]
    for index, part in enumerate(parts):
        (folder / f"{name}.{index:03}").write_bytes(part)
    record = {"parts": len(parts), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / f"{name}.json").write_text(json.dumps(record))


def load(folder: Path, name: str) -> dict[str, Any]:
    """Join and read a checkpoint. Raises DamagedCheckpoint unless every byte is as written."""
    record = json.loads((folder / f"{name}.json").read_text())
    paths = [folder / f"{name}.{index:03}" for index in range(record["parts"])]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise DamagedCheckpoint(f"{folder}: {', '.join(missing)} missing; copy all parts")
    data = b"".join(path.read_bytes() for path in paths)
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise DamagedCheckpoint(f"{folder}/{name}.*: the bytes differ from {name}.json's digest")
    content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return content


def exists(folder: Path, name: str) -> bool:
    return (folder / f"{name}.json").exists()


def as_half(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state with floating-point tensors in bf16, on the CPU."""
    return {
        key: value.detach().cpu().to(torch.bfloat16 if value.is_floating_point() else value.dtype)
        for key, value in state.items()
    }


def as_8_bits(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return matrices as int8 with a scale for each row (``name.scale``), small tensors in bf16."""
    stored: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if value.ndim < 2 or value.numel() < _SMALL or not value.is_floating_point():
            stored |= as_half({name: value})
            continue
        flat = value.detach().float().cpu().flatten(1)
        scale = (flat.abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
        stored[name] = (flat / scale).round().to(torch.int8).view(value.shape)
        stored[f"{name}.scale"] = scale[:, 0]
    return stored


def from_8_bits(stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state that ``as_8_bits`` stored, in fp32."""
    state: dict[str, torch.Tensor] = {}
    for name, value in stored.items():
        if f"{name}.scale" in stored:
            scale = stored[f"{name}.scale"].view(-1, *[1] * (value.ndim - 1))
            state[name] = value.float() * scale
        elif name.removesuffix(".scale") not in stored or not name.endswith(".scale"):
            state[name] = value.float() if value.is_floating_point() else value
    return state
