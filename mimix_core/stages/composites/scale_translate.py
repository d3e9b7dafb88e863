"""Transforms that scale and translate, applied to points and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""[frames, 4]: x0, y0, x1, y1 in pixels of a frame; all 0 where the box is empty."""


@dataclass(frozen=True)
class FrameSize:
    """Width and height of a frame in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class ScaleTranslate:
    """Map a point (X, Y) to (scale X + x, scale Y + y).

    Pixels are squares: the first one extends from 0 to 1, with its center at 0.5.
    """

    scale: float = 1.0
    x: float = 0.0
    y: float = 0.0

    def compose(self, first: ScaleTranslate) -> ScaleTranslate:
        """Return the transform that applies ``first`` and then this one."""
        return ScaleTranslate(
            self.scale * first.scale,
            self.scale * first.x + self.x,
            self.scale * first.y + self.y,
        )

    def inverse(self) -> ScaleTranslate:
        """Return the inverse transform."""
        return ScaleTranslate(1 / self.scale, -self.x / self.scale, -self.y / self.scale)

    @property
    def is_integer_shift(self) -> bool:
        """Whether pixels map exactly to pixels, without interpolation."""
        return self.scale == 1 and float(self.x).is_integer() and float(self.y).is_integer()


IDENTITY = ScaleTranslate()


def boxes_array(boxes: Sequence[Sequence[int]]) -> Boxes:
    """Convert the boxes of a cutout row (see ``tables.CUTOUTS``) to an array."""
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def non_empty_mask(boxes_N4: Boxes) -> NDArray[np.bool_]:
    """Return a mask of the frames with a non-empty box."""
    mask: NDArray[np.bool_] = (boxes_N4[:, 2] > boxes_N4[:, 0]) & (boxes_N4[:, 3] > boxes_N4[:, 1])
    return mask


def transform_boxes(boxes_N4: Boxes, transforms: Sequence[ScaleTranslate]) -> Boxes:
    """Apply each frame's transform to its box; empty boxes stay empty."""
    table = np.array([[transform.scale, transform.x, transform.y] for transform in transforms])
    result: Boxes = boxes_N4 * table[:, :1] + table[:, [1, 2, 1, 2]]
    result[~non_empty_mask(boxes_N4)] = 0
    return result


def intersection_areas(one_N4: Boxes, other_N4: Boxes) -> NDArray[np.float64]:
    """Intersection area of two boxes in each frame, in square pixels."""
    width = np.minimum(one_N4[:, 2], other_N4[:, 2]) - np.maximum(one_N4[:, 0], other_N4[:, 0])
    height = np.minimum(one_N4[:, 3], other_N4[:, 3]) - np.maximum(one_N4[:, 1], other_N4[:, 1])
    area: NDArray[np.float64] = np.maximum(width, 0) * np.maximum(height, 0)
    return area


def box_areas(boxes_N4: Boxes) -> NDArray[np.float64]:
    """Area of each frame's box, in square pixels."""
    return intersection_areas(boxes_N4, boxes_N4)
