"""Comparison of two frames of a moving camera at their best shift and magnification.

All sums are of integers and exact, and divisions are done elementwise: the results do not depend on
the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.frame_downscale import THUMBNAIL_SIZE, ByteArray

_WIDTH, _HEIGHT = THUMBNAIL_SIZE

_SCALES = (0.7, 0.77, 0.84, 0.92, 1.0, 1.09, 1.19, 1.3, 1.42)
"""Magnifications of the first frame that are tried."""

_MAX_SHIFT = (10, 18)
"""Largest shift tried, rows and columns of a thumbnail."""

_MIN_OVERLAP = 0.4
"""Minimum share of the second frame that the first one, moved, covers."""

_MIN_CONTRAST_SHARE = 0.3
"""Minimum contrast of both frames where they overlap, as a share of that of the whole frame."""

_MIN_CONTRAST = 16.0
"""Minimum mean squared contrast of both frames where they overlap, levels^2."""


_SURROUNDINGS = 7
"""Width and height of a pixel's surroundings."""


@dataclass(frozen=True)
class Alignment:
    """How the first frame has to be moved to match the second one best.

    ``correlation``: of luma where they overlap, -1..1. ``shift``: rows and columns of a thumbnail
    between the centers. ``scale``: magnification. ``overlap``: share of the frame.
    """

    correlation: float
    shift: tuple[float, float]
    scale: float
    overlap: float


STILL = Alignment(1.0, (0.0, 0.0), 1.0, 1.0)
"""Of two frames of which hardly anything moves."""


def align_thumbnails(first: ByteArray, second: ByteArray) -> Alignment:
    """Find the shift and the magnification of ``first`` at which its luma matches ``second`` best.

    Both: see ``frame_downscale.AnalysisFrame``. Brightness and contrast do not matter.
    """
    one, other = (
        thumbnail[: _WIDTH * _HEIGHT].reshape(_HEIGHT, _WIDTH) for thumbnail in (first, second)
    )
    return max((_align(one, other, s) for s in _SCALES), key=lambda each: each.correlation)


def keep_details(thumbnail: ByteArray) -> ByteArray:
    """Return the luma of a thumbnail less its surroundings, around 128: [height * width].

    A light that falls on a part of the frame changes the surroundings.
    """
    luma = thumbnail[: _WIDTH * _HEIGHT].reshape(_HEIGHT, _WIDTH).astype(np.int32)
    padded = np.pad(luma, _SURROUNDINGS // 2, "reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, (_SURROUNDINGS, _SURROUNDINGS))
    means = around.sum((2, 3)) // _SURROUNDINGS**2
    details: ByteArray = (luma - means + 128).clip(0, 255).astype(np.uint8).ravel()
    return details


def continue_motion(
    first: ByteArray, second: ByteArray, motion: Alignment, count: int
) -> ByteArray:
    """Make ``count`` thumbnails between two that move from one to the other: [count, values].

    Each is the one nearer in time, moved by whole pixels; beyond its border, the other one. Blended
    or interpolated pixels would have less contrast, as in a dissolve.
    """
    result = np.empty((count, first.size), np.uint8)
    for number in range(count):
        share = (number + 1) / (count + 1)
        planes = []
        start = 0
        for divisor in (1, 2, 2):
            shape = _HEIGHT // divisor, _WIDTH // divisor
            stop = start + shape[0] * shape[1]
            one, other = (each[start:stop].reshape(shape) for each in (first, second))
            planes.append(_move_nearer(one, other, motion, share, divisor))
            start = stop
        result[number] = np.concatenate(planes)
    return result


def _move_nearer(
    one: ByteArray, other: ByteArray, motion: Alignment, share: float, divisor: int
) -> ByteArray:
    """Return the values of a plane at ``share`` of the way."""
    places: list[list[NDArray[np.float64]]] = [[], []]
    for size, shift in zip(one.shape, motion.shift, strict=True):
        middle, whole = (size - 1) / 2, shift / divisor
        here = (np.arange(size) + whole * share - middle) / motion.scale**share
        places[0].append(middle + here)
        places[1].append(middle + here * motion.scale - whole)
    (from_one, inside_one), (from_other, inside_other) = (
        _sample(plane, *at) for plane, at in zip((one, other), places, strict=True)
    )
    use_other = ~inside_one | inside_other if share > 0.5 else ~inside_one
    moved: ByteArray = np.where(use_other, from_other, from_one).ravel()
    return moved


def _sample(
    plane: ByteArray, rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> tuple[ByteArray, NDArray[np.bool_]]:
    """Return the nearest pixels to all rows and columns, and which places are within the plane."""
    inside = np.ones(plane.shape, bool)
    nearest = []
    for axis, at in enumerate((rows, columns)):
        last = plane.shape[axis] - 1
        is_within = (at >= -0.5) & (at <= last + 0.5)
        inside &= is_within[:, None] if axis == 0 else is_within[None, :]
        nearest.append(np.rint(at).clip(0, last).astype(np.int64))
    return plane[np.ix_(*nearest)], inside


def _align(one: ByteArray, other: ByteArray, scale: float) -> Alignment:
    """Find the shift of ``one``, magnified, that matches ``other`` best."""
    one_contrast, other_contrast = _contrast(one), _contrast(other)
    padded, mask = _pad(one, scale)
    values, inside = _windows(padded), _windows(mask)
    target = other.astype(np.float64).ravel() - 128
    count = inside.sum(1)
    sums = values.sum(1), inside @ target
    squares = np.einsum("ij,ij->i", values, values), inside @ target**2
    variances = [count * square - total**2 for square, total in zip(squares, sums, strict=True)]
    usable = count >= _MIN_OVERLAP * target.size
    for variance, contrast in zip(variances, (one_contrast, other_contrast), strict=True):
        usable &= variance >= max(_MIN_CONTRAST, _MIN_CONTRAST_SHARE * contrast) * count**2
    if not usable.any():
        return Alignment(-1.0, (0.0, 0.0), scale, 0.0)
    covariance = count * (values @ target) - sums[0] * sums[1]
    length = np.sqrt(np.maximum(variances[0], 1)) * np.sqrt(np.maximum(variances[1], 1))
    correlation = np.where(usable, covariance / length, -1.0)
    best = int(correlation.argmax())
    row, column = divmod(best, 2 * _MAX_SHIFT[1] + 1)
    return Alignment(
        float(correlation[best]),
        (row - _MAX_SHIFT[0], column - _MAX_SHIFT[1]),
        scale,
        float(count[best] / target.size),
    )


def _contrast(luma: ByteArray) -> float:
    values = luma.astype(np.int64)
    return float(values.size * (values * values).sum() - values.sum() ** 2) / values.size**2


def _pad(luma: ByteArray, scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Magnify, center and pad by the largest shift; return the values around zero, and a mask."""
    if scale != 1:
        size = round(_WIDTH * scale), round(_HEIGHT * scale)
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_LINEAR_EXACT).astype(np.uint8)
    shape = _HEIGHT + 2 * _MAX_SHIFT[0], _WIDTH + 2 * _MAX_SHIFT[1]
    padded, mask = np.zeros(shape), np.zeros(shape)
    starts = [(whole - part) // 2 for whole, part in zip(shape, luma.shape, strict=True)]
    shown = tuple(
        slice(max(0, start), max(0, start) + size)
        for start, size in zip(starts, luma.shape, strict=True)
    )
    source = tuple(
        slice(max(0, -start), max(0, -start) + whole)
        for start, whole in zip(starts, shape, strict=True)
    )
    part = luma[source]
    padded[shown] = part.astype(np.float64) - 128
    mask[shown] = 1
    return padded, mask


def _windows(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return all parts of the size of a thumbnail, [positions, values]."""
    windows = np.lib.stride_tricks.sliding_window_view(plane, (_HEIGHT, _WIDTH))
    return windows.reshape(-1, _HEIGHT * _WIDTH)
