"""Generated reels with cuts, dissolves and fades, and a label for each frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (192, 108)
MIXED = -1
"""Label of a frame that does not belong to a single shot."""

Images = NDArray[np.uint8]


def shot(
    seed: int, frames: int, *, speed: float = 1.0, contrast: float = 1.0, level: int = 128
) -> Images:
    """Draw a pan of ``speed`` pixels per frame over a textured scene with a moving figure.

    Returns uint8 RGB [frames, height, width, 3].
    """
    random = np.random.default_rng(seed)
    width, height = SIZE
    wide = int(width + abs(speed) * frames) + 2
    grid = max(3, height // 27), max(3, wide // 27)
    tiles = random.integers(0, 200, (*grid, 1)) + random.integers(0, 56, (*grid, 3))
    grain = random.integers(0, 48, (height // 2, wide // 2, 3), np.uint8)
    scene = cv2.resize(
        tiles.astype(np.uint8), (wide, height), interpolation=cv2.INTER_CUBIC
    ).astype(np.float64)
    scene += cv2.resize(grain, (wide, height), interpolation=cv2.INTER_LINEAR)
    scene = (scene - 150) * contrast + level
    figure = random.integers(0, 256, 3)
    images = []
    for k in range(frames):
        left = int(speed * k if speed >= 0 else -speed * (frames - k))
        image = scene[:, left : left + width].copy()
        x = int(width * (0.3 + 0.2 * np.sin(k / 9 + seed)))
        image[height // 2 :, x : x + width // 8] = (figure - 128) * contrast + level
        images.append(image.clip(0, 255))
    return np.stack(images).astype(np.uint8)


@dataclass
class Reel:
    """A sequence of shots. ``labels``: the shot number of each frame, or MIXED."""

    images: list[Images] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    shots: int = 0

    def cut(self, images: Images) -> Reel:
        self.images += list(images)
        self.labels += [self.shots] * len(images)
        self.shots += 1
        return self

    def dissolve(self, images: Images, frames: int) -> Reel:
        """Blend the last ``frames`` frames of the last shot with the first ones of ``images``."""
        for k in range(frames):
            share = (k + 1) / (frames + 1)
            old = self.images[k - frames].astype(np.float64)
            self.images[k - frames] = np.rint(old * (1 - share) + images[k] * share).astype(
                np.uint8
            )
            self.labels[k - frames] = MIXED
        self.images += list(images[frames:])
        self.labels += [self.shots] * (len(images) - frames)
        self.shots += 1
        return self

    def through_black(self, images: Images, frames: int, black: int) -> Reel:
        """Fade out, ``black`` black frames, fade in."""
        dark = np.zeros((frames + black, *images.shape[1:]), np.uint8)
        return self.dissolve(dark, frames).dissolve(images, frames)

    def shot_starts(self) -> list[int]:
        """Return the frames at which a cut starts a shot."""
        pairs = zip(self.labels, self.labels[1:], strict=False)
        return [
            k for k, (one, two) in enumerate(pairs, 1) if one != two and MIXED not in (one, two)
        ]

    def write(self, path: Path, rate: int = 24) -> Path:
        """Write a small H.264 file with frame k at PTS k / rate."""
        with av.open(str(path), "w") as container:
            stream = container.add_stream(
                "libx264", rate=rate, options={"crf": "18", "preset": "ultrafast"}
            )
            stream.width, stream.height = SIZE
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, rate)
            stream.codec_context.thread_count = 1
            for number, image in enumerate(self.images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path
