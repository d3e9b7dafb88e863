"""Flashes and short fades in shots of a moving camera, and cuts that hide behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np

from mimix_core import tables
from tests.stages.scenes.transitions import SIZE, Images

CAMERAS = ("pan", "tilt", "zoom", "shake")
WHITE, BLACK = (255.0, 255.0, 255.0), (0.0, 0.0, 0.0)
MAX_LOST_FRAMES = 6
"""Frames at each end of a shot that its scene may lack: detectors have margins."""


@dataclass(frozen=True)
class Look:
    """A flash: the color it blends frames with, and how much, over its time from 0 to 1."""

    color: tuple[float, float, float]
    strength: Callable[[float], float]
    spot: bool = False


def _lightning(time: float) -> float:
    return float(np.interp(time, (0, 0.2, 0.35, 0.5, 1), (1, 0.4, 0.15, 0.9, 0.2)))


LOOKS = {
    "white": Look(WHITE, lambda _: 1.0),
    "grey": Look((205.0, 205.0, 205.0), lambda _: 1.0),
    "colored": Look((255.0, 220.0, 140.0), lambda _: 0.9),
    "partial": Look(WHITE, lambda _: 0.6),
    "decaying": Look(WHITE, lambda time: 1 - time),
    "lightning": Look((225.0, 235.0, 255.0), _lightning),
    "fade": Look(WHITE, lambda time: 1 - abs(2 * time - 1)),
    "spot": Look(WHITE, lambda time: 1 - 0.6 * time, spot=True),
    "black_fade": Look(BLACK, lambda time: 1 - abs(2 * time - 1)),
}
"""Fades need three frames or more."""


@dataclass(frozen=True)
class FlashCase:
    """A video and its shots, [start, end) each; frames between them belong to none.

    ``plain``: the same images without flash or fade.
    """

    name: str
    images: Images
    plain: Images
    shots: tuple[tuple[int, int], ...]


def draw_canvas(seed: int) -> Images:
    """Draw a scene of four times the width and height of a frame: blobs, tiles or fine texture."""
    random = np.random.default_rng(seed)
    width, height = 4 * SIZE[0], 4 * SIZE[1]
    canvas = np.full((height, width, 3), random.integers(40, 216, 3), np.uint8)
    if seed % 3 == 0:
        for _ in range(140):
            center = tuple(int(v) for v in random.integers(0, (width, height)))
            axes = tuple(int(v) for v in random.integers(8, 90, 2))
            color = tuple(int(v) for v in random.integers(0, 256, 3))
            cv2.ellipse(canvas, center, axes, float(random.integers(180)), 0, 360, color, -1)
    else:
        grid = (14, 25) if seed % 3 == 1 else (40, 71)
        tiles = random.integers(0, 200, (*grid, 1)) + random.integers(0, 56, (*grid, 3))
        canvas = cv2.resize(tiles.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = random.integers(-12, 13, (height // 2, width // 2, 3)).astype(np.float32)
    noisy = canvas + cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)
    return noisy.clip(0, 255).astype(np.uint8)


def camera_path(kind: str, frames: int, speed: float, seed: int) -> np.ndarray:
    """Return x, y and magnification for each frame: [frames, 3].

    x and y: the center, in widths of the image from the middle of its path. ``speed``: widths per
    frame; of a zoom, half of its growth per frame. A shake is a random walk that comes back.
    """
    time = np.arange(frames) - frames / 2
    path = np.tile([0.0, 0.0, 1.0], (frames, 1))
    sign = 1 if seed % 2 else -1
    if kind in ("pan", "diagonal"):
        path[:, 0] = sign * speed * time
    if kind in ("tilt", "diagonal"):
        path[:, 1] = sign * speed * time * 9 / 16
    if kind == "zoom":
        path[:, 2] = (1 + 2 * speed) ** (sign * time)
    if kind in ("shake", "handheld"):
        steps = np.random.default_rng(seed).normal(0, speed, (frames, 2))
        for k in range(1, frames):
            steps[k] += 0.9 * steps[k - 1] * (1 if kind == "handheld" else 0.8)
        path[:, :2] = steps if kind == "shake" else steps.cumsum(0) * 0.3
        path[:, :2] -= path[:, :2].mean(0)
    return path


def film(canvas: Images | Sequence[Images], path: np.ndarray, share: float = 0.25) -> Images:
    """Film a canvas, or the frames of a shot, with a moving camera: uint8 [frames, h, w, 3].

    ``share``: width of the image as a share of the canvas.
    """
    width, height = SIZE
    images = []
    for k, (x, y, magnification) in enumerate(path):
        source = canvas if isinstance(canvas, np.ndarray) and canvas.ndim == 3 else canvas[k]
        scale = magnification * width / (share * source.shape[1])
        center_x = source.shape[1] * (0.5 + share * x)
        center_y = source.shape[0] / 2 + source.shape[1] * share * y
        matrix = np.array(
            [
                [scale, 0, width / 2 - scale * center_x],
                [0, scale, height / 2 - scale * center_y],
            ]
        )
        images.append(
            cv2.warpAffine(
                source, matrix, SIZE, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
            )
        )
    return np.stack(images)


def draw_shot(camera: str, frames: int, speed: float, seed: int) -> Images:
    """Film a drawn scene; a figure of its own motion stands before it."""
    images = film(draw_canvas(seed), camera_path(camera, frames, speed, seed))
    width, height = SIZE
    color = np.random.default_rng(seed).integers(0, 256, 3)
    for k, image in enumerate(images):
        x = int(width * (0.35 + 0.15 * np.sin(k / 9 + seed)))
        image[height // 2 :, x : x + width // 8] = color
    return images


def flash(images: Images, look: str, at: int, frames: int) -> Images:
    """Blend ``frames`` frames from ``at`` on with a flash."""
    result = images.astype(np.float32)
    kind, (height, width) = LOOKS[look], images.shape[1:3]
    mask = np.ones((height, width, 1), np.float32)
    if kind.spot:
        rows, columns = np.mgrid[:height, :width]
        distance = np.hypot(columns / width - 0.3, rows / height - 0.3)[..., None]
        mask = np.exp(-((distance / 0.45) ** 2)).astype(np.float32)
    is_fade = "fade" in look
    for k in range(frames):
        share = kind.strength((k + 1) / (frames + 1) if is_fade else k / frames) * mask
        result[at + k] = result[at + k] * (1 - share) + np.float32(kind.color) * share
    return result.clip(0, 255).round().astype(np.uint8)


def flash_within(name: str, shots: Sequence[Images], look: str, frames: int) -> FlashCase:
    """Join three shots by cuts; a flash is in the middle of the second."""
    before, middle, after = shots
    flashed = flash(middle, look, (len(middle) - frames) // 2, frames)
    ends = np.cumsum([0, len(before), len(middle), len(after)]).tolist()
    return FlashCase(
        name,
        np.concatenate([before, flashed, after]),
        np.concatenate(shots),
        tuple(pairwise(ends)),
    )


def flash_between(name: str, shots: Sequence[Images], look: str, frames: int) -> FlashCase:
    """Join two shots by a cut in the middle of a flash."""
    one, other = shots
    joined = np.concatenate([one, other])
    at = len(one) - (0 if look in ("decaying", "spot", "lightning") else frames // 2)
    images = flash(joined, look, at, frames)
    return FlashCase(name, images, joined, ((0, at), (at + frames, len(images))))


def fade_through(
    name: str, shots: Sequence[Images], color: tuple[float, float, float], frames: int
) -> FlashCase:
    """Join two shots by a fade-out, plain frames and a fade-in of ``frames`` frames each."""
    one, other = (images.astype(np.float32) for images in shots)
    for k in range(frames):
        share = (k + 1) / (frames + 1)
        last = len(one) - frames + k
        one[last] = one[last] * (1 - share) + np.float32(color) * share
        other[k] = other[k] * share + np.float32(color) * (1 - share)
    plain = np.full((frames, *one.shape[1:]), color, np.float32)
    images = np.concatenate([one, plain, other]).round().astype(np.uint8)
    ends = len(one) - frames, len(one) + 2 * frames
    return FlashCase(name, images, np.concatenate(shots), ((0, ends[0]), (ends[1], len(images))))


def is_whole(shot: tuple[int, int], rows: Iterable[tables.SceneRow], rate: int = 24) -> bool:
    """Return whether a shot is one usable scene, except for a few frames at its ends."""
    start, end = shot
    return any(
        first <= start + MAX_LOST_FRAMES and last >= end - MAX_LOST_FRAMES
        for first, last in _usable_scenes(rows, rate)
    )


def lost_cuts(case: FlashCase, rows: Iterable[tables.SceneRow], rate: int = 24) -> list[int]:
    """Return the shots that share a usable scene with the shot before them."""
    scenes = _usable_scenes(rows, rate)
    return [
        number
        for number, ((_, end), (start, _)) in enumerate(
            zip(case.shots, case.shots[1:], strict=False), 1
        )
        if any(first < end - 1 and last > start + 1 for first, last in scenes)
    ]


def _usable_scenes(rows: Iterable[tables.SceneRow], rate: int) -> list[tuple[int, int]]:
    scenes = []
    for row in tables.usable(rows):
        unit = Fraction(row["time_base_num"], row["time_base_den"]) * rate
        scenes.append((round(row["start_pts"] * unit), round(row["end_pts"] * unit)))
    return scenes
