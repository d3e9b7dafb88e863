"""Smooth noise from a hash of lattice points: pointwise, so it needs no generator on a device."""

from __future__ import annotations

import torch


def _hash(x: torch.Tensor, y: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
    value = torch.sin(x * 12.9898 + y * 78.233 + seed * 311.7) * 437.585
    return value - torch.floor(value)


def lattice_noise(x: torch.Tensor, y: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
    """Return noise in 0..1 that is smooth between the points of the integer lattice."""
    column, row = torch.floor(x), torch.floor(y)
    fx, fy = x - column, y - row
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    left = _hash(column, row, seed) * (1 - fy) + _hash(column, row + 1, seed) * fy
    right = _hash(column + 1, row, seed) * (1 - fy) + _hash(column + 1, row + 1, seed) * fy
    return left * (1 - fx) + right * fx
