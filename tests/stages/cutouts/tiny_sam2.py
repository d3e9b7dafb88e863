"""A tiny SAM2.1 with random weights, from the package's own classes, fast on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mimix_core.stages.cutouts.locate import Box, BoxTrack

pytest.importorskip("sam2", reason="the package sam2 is installed by make setup")

OVERRIDES = (
    "++model.image_encoder.trunk.embed_dim=24",
    "++model.image_encoder.trunk.stages=[1,1,2,1]",
    "++model.image_encoder.trunk.global_att_blocks=[3]",
    "++model.image_encoder.neck.backbone_channel_list=[192,96,48,24]",
    "++model.memory_attention.num_layers=1",
)
IMAGE_SIZE = 128


def build_tiny_sam2(seed: int) -> Any:
    import torch

    from mimix_core.stages.cutouts.sam2 import model_zoo

    torch.manual_seed(seed)
    return model_zoo.build_predictor("tiny", image_size=IMAGE_SIZE, overrides=OVERRIDES)


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
