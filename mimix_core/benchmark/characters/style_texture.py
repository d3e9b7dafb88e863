"""Describe how a figure is drawn, whoever it is: histograms of its edges and of its grain.

A cartoon is flat areas and hard outlines, a photograph shading, texture and noise. Histograms of
gradient and Laplacian know nothing of shapes and colors, so that a style learned from some
characters holds for others. They replace a learned style embedding such as CSD.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.characters.discriminant import Doubles, Floats
from mimix_core.media.images import RgbImage

NAME = "texture-histograms"

_BINS = np.linspace(0, np.log(260), 14)
"""Borders of the bins, in logarithms of 1 + a difference of CIELAB values per pixel."""

_MAX_HEIGHT = 320


def texture_features(image_HWC: RgbImage, weights_YX: Doubles) -> Floats:
    """Return square roots of histograms over the pixels of a figure, at two scales.

    ``weights_YX``: how much each cell of the image shows the figure, in 0..1.
    """
    height, width = image_HWC.shape[:2]
    if height > _MAX_HEIGHT:
        size = (round(width * _MAX_HEIGHT / height), _MAX_HEIGHT)
        image_HWC = cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    lab_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2LAB).astype(np.float32)
    histograms = []
    for scale in (1.0, 0.5):
        scaled = cv2.resize(lab_HWC, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        size = (scaled.shape[1], scaled.shape[0])
        weights = cv2.resize(weights_YX.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        inside = cv2.erode(np.clip(2 * weights - 1, 0, 1), np.ones((3, 3)))
        histograms += [_histogram(values, inside) for values in _differences(scaled)]
    features: Floats = np.concatenate(histograms).astype(np.float32)
    return features


def _differences(lab_HWC: Floats) -> list[Floats]:
    """Return the length of the color gradient and the Laplacian of the lightness."""
    across = cv2.Sobel(lab_HWC, cv2.CV_32F, 1, 0) / 4
    down = cv2.Sobel(lab_HWC, cv2.CV_32F, 0, 1) / 4
    gradient: Floats = np.sqrt((across**2 + down**2).sum(axis=2)).astype(np.float32)
    lightness = np.ascontiguousarray(lab_HWC[..., 0])
    laplacian: Floats = np.abs(cv2.Laplacian(lightness, cv2.CV_32F)).astype(np.float32)
    return [gradient, laplacian]


def _histogram(values_HW: Floats, weights_HW: NDArray[np.generic]) -> Doubles:
    counts, _ = np.histogram(np.log(values_HW + 1), _BINS, weights=weights_HW)
    shares: Doubles = np.sqrt(counts / max(float(counts.sum()), 1e-6))
    return shares
