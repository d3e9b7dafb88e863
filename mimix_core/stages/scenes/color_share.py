"""How much of a frame's look is color: none in black and white, grey and tinted footage."""

from __future__ import annotations

import numpy as np

from mimix_core.stages.scenes.frame_downscale import THUMBNAIL_SIZE, ByteArray

_WIDTH, _HEIGHT = THUMBNAIL_SIZE
_LUMA_VALUES, _CHROMA_VALUES = _WIDTH * _HEIGHT, _WIDTH * _HEIGHT // 4

_GREY_LEVEL, _COLOR_LEVEL = 1.5, 5.0
"""Chroma (root mean square, levels of 255) up to which a frame has no color, and from which on its
color counts in full."""


def measure_color_share(thumbnail: ByteArray) -> float:
    """Return 0 for a frame without color, 1 for one in full color, between them for faded color.

    Chroma that is a linear function of luma is a tint, as in sepia, and does not count.
    ``thumbnail``: see ``frame_downscale.AnalysisFrame``. Sums are of integers: exact.
    """
    values = thumbnail.astype(np.int64)
    luma = values[:_LUMA_VALUES].reshape(_HEIGHT // 2, 2, _WIDTH // 2, 2).sum((1, 3)).ravel()
    chroma = values[_LUMA_VALUES:].reshape(2, _CHROMA_VALUES)
    luma_variance = _covariance(luma, luma)
    variance = 0.0
    for plane in chroma:
        variance += _covariance(plane, plane)
        if luma_variance:
            variance -= _covariance(plane, luma) ** 2 / luma_variance
    level = (max(0.0, variance) / _CHROMA_VALUES**2) ** 0.5
    share = (level - _GREY_LEVEL) / (_COLOR_LEVEL - _GREY_LEVEL)
    return float(min(1.0, max(0.0, share)))


def _covariance(one: np.ndarray, other: np.ndarray) -> int:
    """Return the covariance times the square of the number of values, an integer."""
    return len(one) * int(one @ other) - int(one.sum()) * int(other.sum())
