"""Correlation volumes of RAFT (Teed and Deng, ECCV 2020, section 3.2), which AMT uses too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

LEVELS = 4


@dataclass(frozen=True)
class CorrelationLevel:
    """Correlations of N positions of one map with all of another, downscaled by 1, 2, 4 or 8.

    ``max_xy_2``: x and y of the last position, stored on the tensor's device (copying it from the
    host at each lookup would stall a GPU).
    """

    correlations_N1HW: torch.Tensor
    max_xy_2: torch.Tensor


CorrelationPyramid = Sequence[CorrelationLevel]


def correlate_all_pairs(first_BCHW: torch.Tensor, second_BCHW: torch.Tensor) -> torch.Tensor:
    """Return correlations_BLM of all positions of the first feature map with all of the second."""
    first_BLC = first_BCHW.flatten(2).transpose(1, 2)
    channels = torch.tensor(float(first_BCHW.shape[1]))
    return torch.matmul(first_BLC, second_BCHW.flatten(2)) / torch.sqrt(channels)


def build_pyramid(correlations_BLM: torch.Tensor, height: int, width: int) -> CorrelationPyramid:
    """Build the pyramid of correlations with M = height x width positions, by average pooling.

    Raises ValueError for maps below 8 x 8, whose last level would be empty.
    """
    if min(height, width) < 2 ** (LEVELS - 1):
        raise ValueError(f"a feature map of {height} x {width} has no {LEVELS} levels")
    levels: list[CorrelationLevel] = []
    correlations_N1HW = correlations_BLM.reshape(-1, 1, height, width)
    for number in range(LEVELS):
        if number:
            correlations_N1HW = F.avg_pool2d(correlations_N1HW, 2, stride=2)
        max_xy = [side - 1 for side in correlations_N1HW.shape[:-3:-1]]
        max_xy_2 = torch.tensor(max_xy, device=correlations_BLM.device)
        levels.append(CorrelationLevel(correlations_N1HW, max_xy_2))
    return levels


def lookup_correlations(
    levels: CorrelationPyramid, coordinates_BCHW: torch.Tensor, radius: int
) -> torch.Tensor:
    """Sample correlations_BCHW within ``radius`` of each coordinate, level by level.

    ``coordinates_BCHW``: x and y, in positions of the finest level. The first axis of a window is
    along x, as in the networks' training.
    """
    batch, _, height, width = coordinates_BCHW.shape
    centers_N112 = coordinates_BCHW.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    steps = torch.arange(-radius, radius + 1, device=coordinates_BCHW.device).float()
    window_1KK2 = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)[None]
    samples = []
    for number, level in enumerate(levels):
        positions_NKK2 = centers_N112 / 2**number + window_1KK2
        grid_NKK2 = 2 * positions_NKK2 / level.max_xy_2 - 1
        sampled_N1KK = F.grid_sample(level.correlations_N1HW, grid_NKK2, align_corners=True)
        samples.append(sampled_N1KK.view(batch, height, width, -1))
    return torch.cat(samples, dim=-1).permute(0, 3, 1, 2).contiguous()


def coordinate_grid(batch: int, height: int, width: int, device: torch.device) -> torch.Tensor:
    """Return coordinates_BCHW, float32: x and y of each position."""
    y_HW, x_HW = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([x_HW, y_HW]).float().expand(batch, -1, -1, -1)
