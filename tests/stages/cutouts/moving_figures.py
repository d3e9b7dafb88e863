"""Figures that move, with their boxes, for segmenters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.cutouts.locate import Box, BoxTrack


def moving_figures(
    frames: int, height: int, width: int, seed: int = 0
) -> tuple[NDArray[np.uint8], dict[str, BoxTrack]]:
    """Render two discs moving towards each other over noise; return frames and box tracks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    pictures = rng.integers(60, 120, (frames, height, width, 3)).astype(np.uint8)
    radius = height / 5
    boxes: dict[str, list[Box | None]] = {"Red": [], "Blue": []}
    for n in range(frames):
        along = n / max(frames - 1, 1)
        for name, centre, colour in (
            ("Red", (width * (0.25 + 0.2 * along), height * 0.55), (220, 60, 40)),
            ("Blue", (width * (0.75 - 0.2 * along), height * 0.5), (40, 60, 220)),
        ):
            cx, cy = centre
            pictures[n][(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = colour
            boxes[name].append((cx - radius, cy - radius, cx + radius, cy + radius))
    return pictures, {name: BoxTrack(track, [1.0] * frames) for name, track in boxes.items()}
