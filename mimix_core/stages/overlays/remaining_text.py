"""Find text outside of the bottom band: logos, watermarks, lines at the top or at the sides, signs.

Text that recurs is part of the broadcast and not of the picture: at one position in several scenes
(a logo, subtitles at the top or in a column), or of one size at changing positions in much of the
episode (a moving watermark). Other text (a sign, a title) belongs to its scene.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from mimix_core.media import Rect
from mimix_core.settings import OverlaySettings
from mimix_core.stages.overlays.persistent_text import SampledFrame
from mimix_core.stages.overlays.text_detection import PixelBox, group_text_rows

_MIN_SCENES, _MIN_PARTS = 3, 3
"""Scenes and parts of the episode in which recurring text occurs; of two scenes, both."""

_MIN_SAMPLES_SHARE = 0.02
"""Share of the sampled frames with text at a position that recurs."""

_MIN_MOVING_SHARE = 0.3
"""The same for text of one size that moves: signs have all sizes, but there may be many."""

_SAME_EDGE = 0.012
"""Share of the frame's height or width: edges this close are at the same position."""

_SAME_SIDE = 0.02
"""The same along a line, whose words may change: centered, or aligned at one end."""

_SAME_SIZE = 0.08
"""Relative difference in width and height of moving text."""

_MIN_INSIDE = 0.3
"""Share of a box within the crop from which on its text remains."""

_Boxes = NDArray[np.int64]


@dataclass(frozen=True)
class RecurringText:
    """Recurring text by sample.

    ``fixed``: at positions that recur. ``moving``: elsewhere in each frame. ``everywhere``: boxes
    at positions with text in so many frames that all scenes are cropped alike.
    """

    fixed: Sequence[Sequence[PixelBox]]
    moving: Sequence[Sequence[PixelBox]]
    everywhere: Sequence[PixelBox]


def find_recurring_text(
    samples: Sequence[SampledFrame],
    overlays: Sequence[Sequence[PixelBox]],
    width: int,
    height: int,
    settings: OverlaySettings,
) -> RecurringText:
    """Find the text that recurs outside of ``overlays``, which are cropped in any case."""
    fixed: list[list[PixelBox]] = [[] for _ in samples]
    moving: list[list[PixelBox]] = [[] for _ in samples]
    counted = [
        index
        for index, sample in enumerate(samples)
        if len(group_text_rows(sample.lines)) < settings.credits_rows
    ]
    found = [
        (index, box)
        for index in counted
        for box in (*samples[index].lines, *samples[index].other_boxes)
        if box not in overlays[index]
    ]
    if not found:
        return RecurringText(fixed, moving, [])
    boxes = np.array([box for _, box in found], np.int64)
    sample_of = np.array([index for index, _ in found])
    scene_of = np.array([samples[index].scene for index, _ in found])
    part_of = np.array([samples[index].part for index, _ in found])
    scenes = len({sample.scene for sample in samples})
    min_scenes = min(_MIN_SCENES, max(2, scenes))

    def recurs(same: NDArray[np.bool_], min_samples: float) -> bool:
        return (
            len(np.unique(sample_of[same])) >= min_samples
            and len(np.unique(scene_of[same])) >= min_scenes
            and len(np.unique(part_of[same])) >= _MIN_PARTS
        )

    everywhere = []
    for (index, box), array in zip(found, boxes, strict=True):
        same = _at_position(boxes, array, width, height)
        if recurs(same, max(min_scenes, ceil(_MIN_SAMPLES_SHARE * len(counted)))):
            fixed[index].append(box)
            if len(np.unique(sample_of[same])) >= settings.min_text_share * len(counted):
                everywhere.append(box)
        elif recurs(_of_size(boxes, array), _MIN_MOVING_SHARE * len(counted)):
            moving[index].append(box)
    return RecurringText(fixed, moving, sorted(set(everywhere)))


def crop_around_text(area: Rect, boxes: Iterable[PixelBox], margin: int) -> Rect:
    """Cut ``boxes`` off, each at the side where that costs least; the result has even edges."""
    left, top, right, bottom = area.x, area.y, area.x + area.width, area.y + area.height
    remaining = set(boxes)
    while True:
        cuts = []
        for x0, y0, x1, y1 in remaining:
            if x0 < right and x1 > left and y0 < bottom and y1 > top:
                costs = (
                    ((x1 + margin - left) / (right - left), 0, x1 + margin),
                    ((y1 + margin - top) / (bottom - top), 1, y1 + margin),
                    ((right - x0 + margin) / (right - left), 2, x0 - margin),
                    ((bottom - y0 + margin) / (bottom - top), 3, y0 - margin),
                )
                cuts.append(min(costs))
        if not cuts or right - left < 4 or bottom - top < 4:
            break
        # The most expensive one first: others may lie behind its edge.
        _, side, edge = max(cuts)
        left, top = (max(left, edge) if side == 0 else left, max(top, edge) if side == 1 else top)
        right = min(right, edge) if side == 2 else right
        bottom = min(bottom, edge) if side == 3 else bottom
    left, top = -(-left // 2) * 2, -(-top // 2) * 2
    return Rect(left, top, max(2, (right - left) // 2 * 2), max(2, (bottom - top) // 2 * 2))


def boxes_inside(boxes: Iterable[PixelBox], crop: Rect) -> list[PixelBox]:
    """Return the boxes that remain visible after cropping, limited to the crop."""
    inside = []
    for x0, y0, x1, y1 in boxes:
        box = (
            max(x0, crop.x),
            max(y0, crop.y),
            min(x1, crop.x + crop.width),
            min(y1, crop.y + crop.height),
        )
        if box[0] < box[2] and box[1] < box[3]:
            area = (box[2] - box[0]) * (box[3] - box[1])
            if area >= _MIN_INSIDE * (x1 - x0) * (y1 - y0):
                inside.append(box)
    return inside


def covered_share(boxes: Sequence[PixelBox], crop: Rect) -> float:
    """Return the share of the crop that is covered by boxes, which overlap little."""
    area = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes)
    return min(1.0, area / (crop.width * crop.height))


def describe_position(box: PixelBox, crop: Rect) -> str:
    """Return where a box is in the crop: one of nine areas."""
    x = (box[0] + box[2] - 2 * crop.x) * 3 // (2 * crop.width)
    y = (box[1] + box[3] - 2 * crop.y) * 3 // (2 * crop.height)
    rows, columns = ("top", "middle", "bottom"), ("left", "center", "right")
    return f"{rows[min(2, max(0, y))]} {columns[min(2, max(0, x))]}"


def _at_position(boxes: _Boxes, box: _Boxes, width: int, height: int) -> NDArray[np.bool_]:
    """Return which boxes are at the position of ``box``: on the same row or in the same column."""
    edge_x, edge_y = _SAME_EDGE * width, _SAME_EDGE * height
    distance = np.abs(boxes - box)
    center = np.abs(boxes[:, :2] + boxes[:, 2:] - box[:2] - box[2:]) / 2
    aligned_x = np.minimum(np.minimum(distance[:, 0], distance[:, 2]), center[:, 0])
    aligned_y = np.minimum(np.minimum(distance[:, 1], distance[:, 3]), center[:, 1])
    same_row = (np.maximum(distance[:, 1], distance[:, 3]) <= 2 * edge_y) & (
        aligned_x <= _SAME_SIDE * width
    )
    same_column = (np.maximum(distance[:, 0], distance[:, 2]) <= 2 * edge_x) & (
        aligned_y <= _SAME_SIDE * height
    )
    same: NDArray[np.bool_] = same_row | same_column
    return same


def _of_size(boxes: _Boxes, box: _Boxes) -> NDArray[np.bool_]:
    size, sizes = box[2:] - box[:2], boxes[:, 2:] - boxes[:, :2]
    return np.asarray((np.abs(sizes - size) <= _SAME_SIZE * size + 1).all(1))
