"""Display values and linear light, and how bright a figure may become in a scene."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Exposure is matched by a quarter of the difference, in this range: mood, never the style.
_GAIN_POWER, _GAIN_RANGE = 0.25, (0.87, 1.15)
_STEPS = 65535


def _to_linear() -> Floats:
    """Display value (8 bit) -> linear light, by sRGB's curve (IEC 61966-2-1)."""
    x = np.arange(256) / 255
    linear: Floats = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )
    return linear


def _to_display() -> Images:
    """Linear light (16 bit) -> display value (8 bit), the inverse of the above."""
    x = np.arange(_STEPS + 1) / _STEPS
    display = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    result: Images = np.rint(display * 255).astype(np.uint8)
    return result


_LINEAR, _DISPLAY = _to_linear(), _to_display()


def linear(image: Images) -> Floats:
    """Linear light 0..1 of display values."""
    result: Floats = cv2.LUT(image, _LINEAR)
    return result


def brightened(image: Images, gain: float) -> Images:
    """Display values of ``gain`` times an image's light; what gets brighter than white is white."""
    result: Images = cv2.LUT(image, display(_LINEAR * np.float32(gain)))
    return result


def display(light: Floats) -> Images:
    """Display values of linear light; below 0 is black and above 1 is white."""
    index = np.clip(light * np.float32(_STEPS) + np.float32(0.5), 0, _STEPS).astype(np.uint16)
    result: Images = np.take(_DISPLAY, index)
    return result


def exposure(
    lumas_HW: Sequence[Images], alphas_HW: Sequence[Images], scenes_HW: Sequence[Images]
) -> float:
    """One gain in linear light for the whole clip, towards the scene's mean brightness.

    Luma 0..255 of some of the source's frames, their alphas, and luma of the scene's.
    """
    weight = sum(float(alpha.sum(dtype=np.float64)) for alpha in alphas_HW)
    if weight == 0:
        return 1.0
    own = sum(
        float((linear(luma) * alpha).sum(dtype=np.float64))
        for luma, alpha in zip(lumas_HW, alphas_HW, strict=True)
    )
    around = float(np.mean([linear(scene).mean(dtype=np.float64) for scene in scenes_HW]))
    ratio = max(around, 1e-4) / max(own / weight, 1e-4)
    return float(np.clip(ratio**_GAIN_POWER, *_GAIN_RANGE))
