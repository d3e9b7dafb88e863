"""Place cutouts of a prompt's characters side by side as a rough picture of the video asked for.

The rules are those of composites without a scene: the size that a character has in its own
clips, within the limits of composites; feet on the ground, or at the frame's edge that cuts them
off; the head in the frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.tables import CutoutRow

Frames = NDArray[np.uint8]

NEUTRAL = 128
"""Gray level of the background: it says nothing about the scene."""

_BEST = 8
"""A layout uses one of so many of a character's best cutouts, drawn by its seed."""

_FEET_RANGE = (0.82, 0.97)
"""Range of the frame's height in which feet are placed, as in composites."""


@dataclass(frozen=True)
class LayoutCutout:
    """A cutout of the training split, with its masks, its clip's video and its size there."""

    row: CutoutRow
    masks: Path
    video: Path
    clip_size: tuple[int, int]

    @property
    def boxes(self) -> NDArray[np.float64]:
        """Return the boxes [frames, 4] of the frames in which the character is there."""
        boxes_N4 = np.asarray(self.row["boxes"], np.float64).reshape(-1, 4)
        there = (boxes_N4[:, 2] > boxes_N4[:, 0]) & (boxes_N4[:, 3] > boxes_N4[:, 1])
        return boxes_N4[there]

    @property
    def height_share(self) -> float:
        """Return the character's median height as a share of its clip's height."""
        boxes_N4 = self.boxes
        return float(np.median(boxes_N4[:, 3] - boxes_N4[:, 1])) / self.clip_size[1]


@dataclass(frozen=True)
class PlacedCutout:
    """A cutout and its constant place: scale of its clip's frame, and the frame's corner."""

    cutout: LayoutCutout
    scale: float
    x: float
    y: float


def best_cutouts(cutouts: Iterable[LayoutCutout]) -> dict[str, list[LayoutCutout]]:
    """Return the best cutouts of each character, best first.

    Whole figures first, then those that are there in most frames, then by the segmenter's mean
    confidence.
    """
    by_character: dict[str, list[LayoutCutout]] = {}
    for cutout in cutouts:
        if len(cutout.boxes):
            by_character.setdefault(cutout.row["character"], []).append(cutout)

    def quality(cutout: LayoutCutout) -> tuple[int, float, float, str]:
        row = cutout.row
        score = float(np.mean(row["score"])) if row["score"] else 0.0
        return len(row["border"]), -row["presence"], -score, row["cutout_id"]

    return {name: sorted(found, key=quality) for name, found in sorted(by_character.items())}


def place_side_by_side(
    characters: Sequence[str],
    cutouts: Mapping[str, Sequence[LayoutCutout]],
    size: tuple[int, int],
    height_limits: tuple[float, float],
    rng: np.random.Generator,
) -> list[PlacedCutout]:
    """Place one of each character's best cutouts in a frame of this width and height.

    Each has an equal part of the width, around which it moves, in an order drawn by ``rng``, and
    the median height of all its cutouts, within ``height_limits`` (shares of the frame's height).
    """
    placed = []
    order = rng.permutation(len(characters))
    for slot, index in enumerate(order):
        known = cutouts[characters[index]]
        cutout = known[int(rng.integers(min(len(known), _BEST)))]
        learned = float(np.median([one.height_share for one in known]))
        placed.append(_place(cutout, learned, slot, len(characters), size, height_limits))
    return placed


def _place(
    cutout: LayoutCutout,
    learned: float,
    slot: int,
    slots: int,
    size: tuple[int, int],
    height_limits: tuple[float, float],
) -> PlacedCutout:
    width, height = size
    boxes_N4, border = cutout.boxes, cutout.row["border"]
    target = float(np.clip(learned, *height_limits))
    scale = target * height / (cutout.height_share * cutout.clip_size[1])
    top, bottom = float(boxes_N4[:, 1].min()), float(np.median(boxes_N4[:, 3]))
    feet = float(np.clip(bottom / cutout.clip_size[1], *_FEET_RANGE)) * height
    if "bottom" in border:
        feet = height
    y = max(feet - scale * bottom, -scale * top)
    # All places that it moves to are in its part of the width, or at least in the frame.
    left, right = float(boxes_N4[:, 0].min()), float(boxes_N4[:, 2].max())
    x = (slot + 0.5) / slots * width - scale * (left + right) / 2
    if scale * (right - left) <= width:
        x = min(max(x, -scale * left), width - scale * right)
    return PlacedCutout(cutout, scale, x, y)


def draw_layout(
    figures: Sequence[tuple[PlacedCutout, Frames, Frames]], size: tuple[int, int], count: int
) -> Frames:
    """Draw frames_THWC of the placed figures over a neutral background.

    ``figures``: each with the RGB frames_THWC of its clip and its alphas_THW; a shorter clip's last
    frame stays.
    """
    width, height = size
    layout_THWC = np.full((count, height, width, 3), NEUTRAL, np.uint8)
    for placed, frames_THWC, alpha_THW in figures:
        # OpenCV's origin is the center of the first pixel.
        offset = 0.5 * placed.scale - 0.5
        matrix = np.array(
            [[placed.scale, 0, placed.x + offset], [0, placed.scale, placed.y + offset]]
        )
        for n, canvas_HWC in enumerate(layout_THWC):
            source = min(n, len(frames_THWC) - 1, len(alpha_THW) - 1)
            figure_HWC = cv2.warpAffine(frames_THWC[source], matrix, size, flags=cv2.INTER_LINEAR)
            alpha_HW = cv2.warpAffine(alpha_THW[source], matrix, size, flags=cv2.INTER_LINEAR)
            opacity_HW1 = alpha_HW.astype(np.float32)[..., None] / 255
            mixed_HWC = opacity_HW1 * figure_HWC + (1 - opacity_HW1) * canvas_HWC
            canvas_HWC[:] = np.rint(mixed_HWC).astype(np.uint8)
    return layout_THWC
