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


def align_thumbnails(first: ByteArray, second: ByteArray, scales=_SCALES) -> Alignment:
    """Find the shift and the magnification of ``first`` at which its luma matches ``second`` best.

    Both: see ``frame_downscale.AnalysisFrame``. Brightness and contrast do not matter.
    """
    one, other = (
        thumbnail[: _WIDTH * _HEIGHT].reshape(_HEIGHT, _WIDTH) for thumbnail in (first, second)
    )
    return max((_align(one, other, s) for s in scales), key=lambda each: each.correlation)


def _align(one: ByteArray, other: ByteArray, scale: float) -> Alignment:
    size = round(_WIDTH * scale), round(_HEIGHT * scale)
    if scale != 1:
        one = cv2.resize(one, size, interpolation=cv2.INTER_LINEAR_EXACT)
    rows, columns = one.shape
    # Padded so that the first window is the largest shift up and left of the centered position.
    top = _MAX_SHIFT[0] - (rows - _HEIGHT) // 2
    left = _MAX_SHIFT[1] - (columns - _WIDTH) // 2
    shape = _HEIGHT + 2 * _MAX_SHIFT[0], _WIDTH + 2 * _MAX_SHIFT[1]
    padded, mask = np.zeros(shape), np.zeros(shape)
    target = slice(max(0, top), min(shape[0], top + rows)), slice(max(0, left), min(shape[1], left + columns))
    source = one[target[0].start - top : target[0].stop - top, target[1].start - left : target[1].stop - left]
    padded[target] = source.astype(np.float64) - 128
    mask[target] = 1
    values, inside = _windows(padded), _windows(mask)
    plain = other.astype(np.float64).ravel() - 128
    count = inside.sum(1)
    sums = values.sum(1), inside @ plain
    variances = [
        count * squares - total**2
        for squares, total in zip(
            (np.einsum("ij,ij->i", values, values), inside @ plain**2), sums, strict=True
        )
    ]
    covariance = count * (values @ plain) - sums[0] * sums[1]
    pixels = _WIDTH * _HEIGHT
    usable = count >= _MIN_OVERLAP * pixels
    for variance, whole in zip(variances, (one, other), strict=True):
        numbers = whole.astype(np.float64).ravel()
        contrast = numbers.size * (numbers @ numbers) - numbers.sum() ** 2
        floor = max(_MIN_CONTRAST, _MIN_CONTRAST_SHARE * contrast / numbers.size**2)
        usable &= variance >= floor * count**2
    if not usable.any():
        return Alignment(-1.0, (0.0, 0.0), scale, 0.0)
    scale_product = np.sqrt(np.maximum(variances[0], 1)) * np.sqrt(np.maximum(variances[1], 1))
    correlation = np.where(usable, covariance / scale_product, -1.0)
    best = int(correlation.argmax())
    row, column = divmod(best, 2 * _MAX_SHIFT[1] + 1)
    return Alignment(
        float(correlation[best]),
        (row - _MAX_SHIFT[0], column - _MAX_SHIFT[1]),
        scale,
        float(count[best] / pixels),
    )


def _windows(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    windows = np.lib.stride_tricks.sliding_window_view(plane, (_HEIGHT, _WIDTH))
    return windows.reshape(-1, _HEIGHT * _WIDTH)
