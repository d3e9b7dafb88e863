"""Videos of a made-up run: a disc that crosses a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from mimix_core.engine.artifacts import digest_file

FRAMES = 81

PaintClip = Callable[[str, int], list[NDArray[np.uint8]]]
"""Frames (uint8 [height, width, 3]) of the n-th clip of a show."""


def draw_discs(
    show: str, number: int, width: int = 208, height: int = 120
) -> list[NDArray[np.uint8]]:
    """Draw a disc that crosses a gradient."""
    y, x = np.mgrid[0:height, 0:width]
    tint = np.array([90, 170, 70] if show == "meadow" else [120, 120, 150])
    ground = (tint * (0.5 + 0.5 * y / height)[..., None] + 10 * (number % 7)).clip(0, 255)
    found = []
    for k in range(FRAMES):
        frame = ground.astype(np.uint8)
        frame[disc_mask(number, k, x, y)] = (240, 200 - 20 * (number % 5), 90)
        found.append(frame)
    return found


def disc_mask(number: int, k: int, x: NDArray[np.int_], y: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Mask of the disc in frame ``k``."""
    height, width = x.shape
    centre = width * (0.25 + 0.5 * k / FRAMES), height * (0.5 + 0.05 * (number % 3))
    inside: NDArray[np.bool_] = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < (height / 3) ** 2
    return inside


def encode(path: Path, frames: Sequence[NDArray[np.uint8]]) -> str:
    """Write an mp4 at 16 frames a second; its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "ultrafast", "crf": "20"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return digest_file(path)
