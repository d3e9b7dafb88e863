"""Describe how a figure is drawn: histograms of its edges and grain, and of how strong colors are.

A cartoon is flat areas of clean color and hard outlines, a photograph shading, texture, noise and
muted colors. A generated figure has lost much of its grain and its edges are soft, whatever its
style: what is left is whether its colors are clean or muted, and how light and shade share it.
None of the histograms knows shapes or hues. They replace a learned style embedding such as CSD.
"""

from __future__ import annotations

import cv2
import numpy as np

from mimix_core.benchmark.characters.discriminant import Doubles, Floats
from mimix_core.media.images import RgbImage

_DIFFERENCE_BINS = np.linspace(0, np.log(260), 14)
"""Borders of the bins, in logarithms of 1 + a difference of CIELAB values per pixel."""

_CHROMA_BINS = np.linspace(0, 136, 14)
"""Borders in distances from gray; no color of sRGB is farther than 134 (blue)."""

_LIGHTNESS_BINS = np.linspace(0, 256, 14)

_MAX_HEIGHT = 320


def style_histograms(image_HWC: RgbImage, weights_YX: Doubles) -> Floats:
    """Return square roots of histograms over the pixels of a figure.

    Color gradient and Laplacian at two scales, then chroma and lightness. ``weights_YX``: how much
    each cell of the image shows the figure, in 0..1.
    """
    height, width = image_HWC.shape[:2]
    if height > _MAX_HEIGHT:
        size = (round(width * _MAX_HEIGHT / height), _MAX_HEIGHT)
        image_HWC = cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    lab_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2LAB).astype(np.float32)
    histograms = []
    for scale in (1.0, 0.5):
        scaled = cv2.resize(lab_HWC, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        inside = _inside(weights_YX, scaled)
        histograms += [
            _histogram(np.log(values + 1), inside, _DIFFERENCE_BINS)
            for values in _differences(scaled)
        ]
    inside = _inside(weights_YX, lab_HWC)
    chroma = np.hypot(lab_HWC[..., 1] - 128, lab_HWC[..., 2] - 128)
    histograms.append(_histogram(chroma, inside, _CHROMA_BINS))
    histograms.append(_histogram(lab_HWC[..., 0], inside, _LIGHTNESS_BINS))
    features: Floats = np.concatenate(histograms).astype(np.float32)
    return features


def _inside(weights_YX: Doubles, image_HWC: Floats) -> Floats:
    """Return how much each pixel is inside of the figure; its border is not."""
    size = (image_HWC.shape[1], image_HWC.shape[0])
    weights = cv2.resize(weights_YX.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    inside: Floats = cv2.erode(np.clip(2 * weights - 1, 0, 1), np.ones((3, 3))).astype(np.float32)
    return inside


def _differences(lab_HWC: Floats) -> list[Floats]:
    """Return the length of the color gradient and the Laplacian of the lightness."""
    across = cv2.Sobel(lab_HWC, cv2.CV_32F, 1, 0) / 4
    down = cv2.Sobel(lab_HWC, cv2.CV_32F, 0, 1) / 4
    gradient: Floats = np.sqrt((across**2 + down**2).sum(axis=2)).astype(np.float32)
    lightness = np.ascontiguousarray(lab_HWC[..., 0])
    laplacian: Floats = np.abs(cv2.Laplacian(lightness, cv2.CV_32F)).astype(np.float32)
    return [gradient, laplacian]


def _histogram(values_HW: Floats, weights_HW: Floats, bins: Doubles) -> Doubles:
    counts, _ = np.histogram(values_HW, bins, weights=weights_HW)
    shares: Doubles = np.sqrt(counts / max(float(counts.sum()), 1e-6))
    return shares
