"""Convert between display values and linear light, and match a figure's exposure."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Exposure is matched by a quarter of the difference and clipped to this range: it adapts the mood
# without changing the style.
_GAIN_POWER, _GAIN_RANGE = 0.25, (0.87, 1.15)
_STEPS = 65535


def _linear_table() -> Floats:
    """Display value (8 bit) -> linear light, by sRGB's curve (IEC 61966-2-1)."""
    x = np.arange(256) / 255
    linear: Floats = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )
    return linear


def _display_table() -> Images:
    """Linear light (16 bit) -> display value (8 bit), the inverse of the above."""
    x = np.arange(_STEPS + 1) / _STEPS
    display = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    result: Images = np.rint(display * 255).astype(np.uint8)
    return result


_LINEAR, _DISPLAY = _linear_table(), _display_table()


def to_linear(image: Images) -> Floats:
    """Convert display values to linear light 0..1."""
    result: Floats = cv2.LUT(image, _LINEAR)
    return result


def apply_gain(image: Images, gain: float) -> Images:
    """Multiply an image's linear light by ``gain``; the result is clipped to white."""
    result: Images = cv2.LUT(image, to_display(_LINEAR * np.float32(gain)))
    return result


def to_display(light: Floats) -> Images:
    """Convert linear light to display values, clipped to black and white."""
    index = np.clip(light * np.float32(_STEPS) + np.float32(0.5), 0, _STEPS).astype(np.uint16)
    result: Images = np.take(_DISPLAY, index)
    return result


def exposure_gain(
    lumas_HW: Sequence[Images], alphas_HW: Sequence[Images], backgrounds_HW: Sequence[Images]
) -> float:
    """Compute one gain in linear light for a clip, towards the background's mean brightness.

    Inputs: luma 0..255 of some source frames, their alphas, and luma of background frames.
    """
    weight = sum(float(alpha.sum(dtype=np.float64)) for alpha in alphas_HW)
    if weight == 0:
        return 1.0
    own = sum(
        float((to_linear(luma) * alpha).sum(dtype=np.float64))
        for luma, alpha in zip(lumas_HW, alphas_HW, strict=True)
    )
    background = float(np.mean([to_linear(luma).mean(dtype=np.float64) for luma in backgrounds_HW]))
    ratio = max(background, 1e-4) / max(own / weight, 1e-4)
    return float(np.clip(ratio**_GAIN_POWER, *_GAIN_RANGE))
