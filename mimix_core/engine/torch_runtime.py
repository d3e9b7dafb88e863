"""Where and how tensors are computed: device, threads, and random numbers keyed by meaning."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import torch

from mimix_core.errors import BadInput


def pick_device(asked: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to compute on: ``auto`` takes a GPU when there is one. Raises BadInput."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise BadInput(
            "no CUDA device", where="settings, key device", fix="Set device to cpu or auto."
        )
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(asked)


def pin_threads(count: int) -> None:
    """Use exactly ``count`` threads for this thread's CPU tensors: float sums depend on it."""
    torch.set_num_threads(count)


def seed_of(*key: str | int) -> int:
    """A 63 bit seed for a key such as (run seed, epoch, sample id)."""
    digest = hashlib.sha256(json.dumps(key, ensure_ascii=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*key: str | int) -> torch.Generator:
    """A CPU generator for a key: the same numbers in any process, at any time, for any device."""
    return torch.Generator().manual_seed(seed_of(*key))
