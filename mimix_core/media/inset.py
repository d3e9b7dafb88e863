"""Detection of an image within the image: in a decorative frame, windowboxed, picture-in-picture.

Its four sides are straight edges at which, over the time of a clip, neighboring pixels differ far
more than they do beside them. Motion within a shot has no such edges, and still scenery rarely has
four that make a rectangle of the frame's own shape. All sums are of integers: exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MIN_STEP, _MIN_STEP_RATIO = 4, 1.3
"""An edge differs by this many levels on average, and by this many times what pixels beside it
do."""

_BESIDE = 4
"""Distance of the pixels beside an edge."""

_MIN_SIDE = 0.24
"""Least width and height of an inset, as shares of the frame's."""

_MAX_STRETCH = 1.3
"""An inset's shape differs by this factor from the frame's at most."""

_MIN_EDGE_SHARE, _MIN_SIDE_SHARE = 0.6, 0.35
"""Share of the four sides together, and of each, that has to be an edge."""

_MAX_LINES = 24
"""Rows and columns that are tried as sides."""


@dataclass(frozen=True)
class Inset:
    """A rectangle within the frame, in shares of its width and height, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float

    def crop(self, plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the part of a plane [height, width] that is within the rectangle."""
        height, width = plane.shape
        rows, columns = (
            slice(round(start * size), round(end * size))
            for start, end, size in (
                (self.top, self.bottom, height),
                (self.left, self.right, width),
            )
        )
        return plane[rows, columns]


def find_inset(images: Sequence[NDArray[np.uint8]]) -> Inset | None:
    """Find the rectangle in which a clip shows an image of its own, if there is one.

    ``images``: luma of frames spread over the clip, uint8 [height, width], about 100 lines each.
    """
    small = np.stack(images).astype(np.int32)
    height, width = small.shape[1:]
    if min(height, width) < 4 * _BESIDE:
        return None
    columns = _count_edges(small)
    rows = _count_edges(small.transpose(0, 2, 1))
    lefts, tops = (
        _candidates(total, round(_MIN_SIDE * (len(total) - 1))) for total in (columns, rows)
    )
    if len(lefts) < 2 or len(tops) < 2:
        return None
    left, right = _pairs(lefts, _MIN_SIDE * width)
    top, bottom = _pairs(tops, _MIN_SIDE * height)
    left, right, top, bottom = (
        *(part[:, None] for part in (left, right)),
        *(part[None, :] for part in (top, bottom)),
    )
    tall, wide = bottom - top, right - left
    sides = [
        (columns[bottom, left] - columns[top, left]) / tall,
        (columns[bottom, right] - columns[top, right]) / tall,
        (rows[right, top] - rows[left, top]) / wide,
        (rows[right, bottom] - rows[left, bottom]) / wide,
    ]
    shape = (wide / width) / (tall / height)
    fits = (shape <= _MAX_STRETCH) & (shape >= 1 / _MAX_STRETCH)
    fits &= np.minimum.reduce(sides) >= _MIN_SIDE_SHARE
    score = np.where(fits, sum(sides) / 4, 0.0)
    if not score.size or score.max() < _MIN_EDGE_SHARE:
        return None
    # Of about equally good ones, the largest: content may have a window of its own.
    area = np.where(score >= score.max() - 0.05, wide * tall, 0)
    one, other = np.unravel_index(int(area.argmax()), area.shape)
    return Inset(
        float(left[one, 0] / width),
        float(top[0, other] / height),
        float(right[one, 0] / width),
        float(bottom[0, other] / height),
    )


def _count_edges(luma: NDArray[np.int32]) -> NDArray[np.int64]:
    """Count pixels at which a vertical edge runs: those above each row, [height + 1, width + 1].

    ``luma`` [frames, height, width]. Column x is the edge between pixels x - 1 and x; one that is
    a pixel off counts as well.
    """
    frames, height, width = luma.shape
    # Over two pixels, since an edge between two is blurred.
    step = np.zeros((height, width + 1), np.int64)
    step[:, 2:-2] = np.abs(luma[:, :, 3:] - luma[:, :, :-3]).sum(0)
    beside = np.maximum(np.roll(step, _BESIDE, 1), np.roll(step, -_BESIDE, 1))
    edge = (step >= _MIN_STEP * frames) & (step >= _MIN_STEP_RATIO * beside)
    edge[:, : _BESIDE // 2], edge[:, width + 1 - _BESIDE // 2 :] = False, False
    total = np.zeros((height + 1, width + 1), np.int64)
    np.cumsum(edge, axis=0, out=total[1:])
    return total


def _candidates(total: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return the columns that have an edge over at least ``length`` rows, the longest ones."""
    runs = (total[length:] - total[:-length]).max(0)
    least = _MIN_SIDE_SHARE * length
    order = [int(at) for at in np.argsort(-total[-1], kind="stable") if runs[at] >= least]
    return np.array(sorted(order[:_MAX_LINES]), np.int64)


def _pairs(lines: NDArray[np.int64], least: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    one, other = np.meshgrid(lines, lines, indexing="ij")
    far = other - one >= least
    return one[far], other[far]
