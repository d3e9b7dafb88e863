"""Contact sheets of videos: one row a video, some of its frames side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def write_sheet(
    path: Path,
    videos_BCTHW: torch.Tensor,
    frames: Sequence[int] = (0, 4, 8, 12, 16),
    scale: int = 1,
) -> None:
    """Write videos in 0..1 as a PNG."""
    picked = videos_BCTHW[:, :, list(frames)].float().clamp(0, 1).mul(255).round().byte().cpu()
    count, channels, steps, height, width = picked.shape
    rows = picked.permute(0, 3, 2, 4, 1).reshape(count * height, steps * width, channels)
    image = Image.fromarray(np.ascontiguousarray(rows.numpy()))
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(path)
