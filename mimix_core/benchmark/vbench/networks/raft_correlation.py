"""Correlation volumes of RAFT (Teed and Deng, ECCV 2020, section 3.2), which AMT uses as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

LEVELS = 4


@dataclass(frozen=True)
class Level:
    """Correlations of N places of one map with all of another, that map 1, 2, 4 or 8 times less.

    ``correlations_N1HW``; ``last_2``: x and y of its last place, on its device (a copy from the
    host at each look-up would make a GPU wait).
    """

    correlations_N1HW: torch.Tensor
    last_2: torch.Tensor


Pyramid = Sequence[Level]


def all_pairs(first_BCHW: torch.Tensor, second_BCHW: torch.Tensor) -> torch.Tensor:
    """correlations_BLM of every place of the first feature map with every one of the second."""
    first_BLC = first_BCHW.flatten(2).transpose(1, 2)
    channels = torch.tensor(float(first_BCHW.shape[1]))
    return torch.matmul(first_BLC, second_BCHW.flatten(2)) / torch.sqrt(channels)


def pyramid(correlations_BLM: torch.Tensor, height: int, width: int) -> Pyramid:
    """Those correlations, M places of height x width, and their means over 2, 4 and 8 squared.

    Raises ValueError for maps below 8 x 8, whose last level would be empty.
    """
    if min(height, width) < 2 ** (LEVELS - 1):
        raise ValueError(f"a feature map of {height} x {width} has no {LEVELS} levels")
    levels: list[Level] = []
    correlations_N1HW = correlations_BLM.reshape(-1, 1, height, width)
    for number in range(LEVELS):
        if number:
            correlations_N1HW = F.avg_pool2d(correlations_N1HW, 2, stride=2)
        last = [side - 1 for side in correlations_N1HW.shape[:-3:-1]]
        levels.append(Level(correlations_N1HW, torch.tensor(last, device=correlations_BLM.device)))
    return levels


def look_up(levels: Pyramid, coordinates_BCHW: torch.Tensor, radius: int) -> torch.Tensor:
    """found_BCHW: correlations at the places within ``radius`` of each coordinate, level by level.

    ``coordinates_BCHW``: x and y, in places of the finest level. The first axis of a window goes
    along x: the networks were trained so.
    """
    batch, _, height, width = coordinates_BCHW.shape
    centres_N112 = coordinates_BCHW.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    steps = torch.arange(-radius, radius + 1, device=coordinates_BCHW.device).float()
    window_1KK2 = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)[None]
    found = []
    for number, level in enumerate(levels):
        places_NKK2 = centres_N112 / 2**number + window_1KK2
        grid_NKK2 = 2 * places_NKK2 / level.last_2 - 1
        seen_N1KK = F.grid_sample(level.correlations_N1HW, grid_NKK2, align_corners=True)
        found.append(seen_N1KK.view(batch, height, width, -1))
    return torch.cat(found, dim=-1).permute(0, 3, 1, 2).contiguous()


def coordinate_grid(batch: int, height: int, width: int, device: torch.device) -> torch.Tensor:
    """coordinates_BCHW, float32: the x and the y of each place."""
    y_HW, x_HW = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([x_HW, y_HW]).float().expand(batch, -1, -1, -1)
