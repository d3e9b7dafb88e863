"""Choose how many frames a network processes at once. Results depend on it by rounding only."""

from __future__ import annotations

import torch

_GPU_BYTES = 3 * 1024**3
_CPU_BYTES = 256 * 1024**2


def correlation_batch_size(height: float, width: float, volumes: int, device: torch.device) -> int:
    """Return how many frame pairs have correlation volumes within the memory budget; at least 1.

    ``volumes``: correlation volumes per pair; each holds one float32 for any two positions of a
    map of 1/8 the frame's height and width.
    """
    budget = _CPU_BYTES if device.type == "cpu" else _GPU_BYTES
    positions = (height / 8) * (width / 8)
    return max(1, int(budget / (volumes * 4 * positions**2)))


def patch_batch_size(device: torch.device) -> int:
    """Return how many frames of at most 512 pixels a patch-based network processes at once."""
    return 4 if device.type == "cpu" else 32
