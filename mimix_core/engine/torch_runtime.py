"""Choose device, thread count and seeds for tensor computations."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import torch

from mimix_core.errors import BadInput


def select_device(requested: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Select the device to compute on; ``auto`` uses a GPU if present. Raises BadInput."""
    if requested == "cuda" and not torch.cuda.is_available():
        raise BadInput(
            "no CUDA device found", where="settings, key device", fix="Set device to cpu or auto."
        )
    if requested == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(requested)


def set_num_threads(count: int) -> None:
    """Use exactly ``count`` CPU threads for tensors: the rounding of sums depends on it."""
    torch.set_num_threads(count)


def derive_seed(*key: str | int) -> int:
    """Derive a 63-bit seed from a key such as (run seed, epoch, sample id)."""
    digest = hashlib.sha256(json.dumps(key, ensure_ascii=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seeded_generator(*key: str | int) -> torch.Generator:
    """Create a CPU random generator from a key: the same numbers on every machine and device."""
    return torch.Generator().manual_seed(derive_seed(*key))
