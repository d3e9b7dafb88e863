"""How many frames a network sees at once. Results do not depend on it beyond rounding."""

from __future__ import annotations

import torch

_BYTES_ON_CARD = 3 * 1024**3
_BYTES_ON_CPU = 256 * 1024**2


def correlated_at_once(height: float, width: float, volumes: int, device: torch.device) -> int:
    """Pairs of frames of that size whose correlation volumes fit the memory set aside; at least 1.

    ``volumes``: per pair, each of one float32 for any two places of an eighth of the size.
    """
    allowed = _BYTES_ON_CPU if device.type == "cpu" else _BYTES_ON_CARD
    places = (height / 8) * (width / 8)
    return max(1, int(allowed / (volumes * 4 * places**2)))


def shown_at_once(device: torch.device) -> int:
    """Frames of at most 512 pixels that a network may cut into patches at once."""
    return 4 if device.type == "cpu" else 32
