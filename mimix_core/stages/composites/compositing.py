"""Composite a figure over a background: alpha over in linear light, with a soft, stable edge.

Most pixels of a figure are solid, and most pixels of the background are untouched: only those in
between are mixed, and only they are converted to linear light.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.composites.alpha import extend_edge_colors, feather_alpha, smooth_alpha
from mimix_core.stages.composites.linear_light import (
    Floats,
    Images,
    apply_gain,
    exposure_gain,
    to_display,
    to_linear,
)
from mimix_core.stages.composites.scale_translate import ScaleTranslate
from mimix_core.stages.composites.yuv_frames import (
    ColorConverter,
    FrameRegion,
    YuvPlanes,
    enclosing_region,
    paste_region,
    sample_luma,
)

_EDGE_MARGIN = 6
"""Pixels around a figure needed to compute its edge."""

_EXPOSURE_FRAMES = 5
"""Number of frames sampled to match the exposure."""

_BICUBIC_SUPPORT = 2
"""Pixels that bicubic interpolation reads on each side."""

_PREBLUR_SCALE = 0.75
"""Below this scale bicubic interpolation skips pixels, so the source is blurred first."""

_MIN_ALPHA = np.float32(1e-4)
"""A smaller alpha changes no pixel: white on black by a third of a level."""

_SHADOW_HEIGHT, _SHADOW_FEET = 0.12, 0.1
"""A contact shadow's height (share of its width), and the share of the figure that is feet."""


@dataclass(frozen=True)
class PasteOptions:
    """How a figure is pasted.

    ``gain``: its brightness in linear light. ``feather``: pixels. ``shadow``: share of the light
    that the contact shadow removes, 0 to 1.
    """

    gain: float = 1.0
    feather: float = 1.5
    shadow: float = 0.0


def match_exposure(
    source: Sequence[YuvPlanes], alphas_NHW: Images, background: Sequence[YuvPlanes]
) -> float:
    """Compute the gain that moves a figure slightly towards its background's brightness."""
    sampled = range(0, len(source), max(1, len(source) // _EXPOSURE_FRAMES))
    return exposure_gain(
        sample_luma([source[n] for n in sampled]),
        [alphas_NHW[n][::4, ::4] for n in sampled],
        sample_luma([background[n] for n in sampled]),
    )


def composite_frames(
    source: Sequence[YuvPlanes],
    alphas_NHW: Images,
    background: Sequence[YuvPlanes],
    path: Sequence[ScaleTranslate],
    options: PasteOptions,
) -> Iterator[YuvPlanes]:
    """Yield the composited frames: those of the background, changed where the figure is.

    ``source`` and ``alphas_NHW`` have the same size, ``background`` its own; all have the same
    number of frames.
    """
    converter = ColorConverter()
    boxes = [cv2.boundingRect(alpha_HW) for alpha_HW in alphas_NHW]
    for n, (own, target, transform) in enumerate(zip(source, background, path, strict=True)):
        x, y, width, height = boxes[n]
        region = enclosing_region(
            x - _EDGE_MARGIN,
            y - _EDGE_MARGIN,
            x + width + _EDGE_MARGIN,
            y + height + _EDGE_MARGIN,
            *own.size,
        )
        if width == 0 or region is None:
            yield target
        else:
            near = alphas_NHW[max(n - 1, 0) : n + 2, *region.window]
            alpha_HW = smooth_alpha(near, min(n, 1))
            yield _frame(own.crop(region), alpha_HW, region, target, transform, options, converter)


def _frame(
    source: YuvPlanes,
    alpha_HW: Images,
    region: FrameRegion,
    background: YuvPlanes,
    transform: ScaleTranslate,
    options: PasteOptions,
    converter: ColorConverter,
) -> YuvPlanes:
    """Composite one frame; ``source`` and ``alpha_HW`` are crops at ``region`` of the source."""
    target = _target_region(alpha_HW, region, transform, options, background.size)
    if target is None:
        return background
    pasted_HWC, touched_HW = paste_image(
        converter.to_rgb(source),
        alpha_HW,
        converter.to_rgb(background.crop(target)),
        ScaleTranslate(
            transform.scale,
            transform.scale * region.x0 + transform.x - target.x0,
            transform.scale * region.y0 + transform.y - target.y0,
        ),
        options,
    )
    return paste_region(background, target, converter.to_planes(pasted_HWC), touched_HW)


def paste_image(
    source_HWC: Images,
    alpha_HW: Images,
    background_HWC: Images,
    transform: ScaleTranslate,
    options: PasteOptions,
) -> tuple[Images, NDArray[np.bool_]]:
    """Paste one image over another; return the result and a mask of the changed pixels.

    Untouched pixels are bit-identical to the background; with an integer shift, solid pixels of
    the figure are its own apart from the gain.
    """
    shape = background_HWC.shape[:2]
    soft_HW = feather_alpha(alpha_HW, options.feather)
    light_HWC, rim_HW = to_linear(source_HWC), np.zeros(alpha_HW.shape, np.bool_)
    if options.feather > 0:
        light_HWC, rim_HW = extend_edge_colors(light_HWC, alpha_HW)
    result = background_HWC.copy()
    if transform.is_integer_shift:
        soft_HW = _shift(soft_HW, shape, transform)
        over_HWC = _shift(light_HWC, shape, transform)
        solid_HW = (soft_HW == 255) & ~_shift(rim_HW, shape, transform)
        own_HWC = apply_gain(_shift(source_HWC, shape, transform), options.gain)
        opacity_HW = soft_HW * np.float32(1 / 255)
    else:
        over_HWC, opacity_HW = _resample(light_HWC, soft_HW, shape, transform)
        solid_HW = opacity_HW > 1 - _MIN_ALPHA
        own_HWC = to_display(over_HWC * np.float32(options.gain))
    cv2.copyTo(own_HWC, solid_HW.view(np.uint8), result)
    mixed_HW = opacity_HW > _MIN_ALPHA
    shade: Floats | np.float32 = np.float32(1)
    if options.shadow > 0:
        shade_HW = _contact_shadow(opacity_HW, options.shadow)
        mixed_HW |= shade_HW < 1 - _MIN_ALPHA
    mixed_HW &= ~solid_HW
    mixed = np.flatnonzero(mixed_HW)
    if not mixed.size:
        return result, solid_HW
    if options.shadow > 0:
        shade = shade_HW.reshape(-1, 1)[mixed]
    opacity = opacity_HW.reshape(-1, 1)[mixed]
    over = over_HWC.reshape(-1, 3)[mixed]
    if transform.is_integer_shift:
        over *= opacity
    under = to_linear(background_HWC.reshape(-1, 3)[mixed]) * shade
    # Clip to white before mixing.
    over = np.minimum(over * np.float32(options.gain), opacity)
    result.reshape(-1, 3)[mixed] = to_display(over + (1 - opacity) * under)
    return result, solid_HW | mixed_HW


def _shift(image: NDArray[Any], shape: tuple[int, ...], transform: ScaleTranslate) -> NDArray[Any]:
    """Shift ``image`` by an integer transform, onto zeros in a frame of ``shape``."""
    result = np.zeros((*shape, *image.shape[2:]), image.dtype)
    x, y = int(transform.x), int(transform.y)
    rows, columns = image.shape[:2]
    top, left = max(0, y), max(0, x)
    bottom, right = min(shape[0], y + rows), min(shape[1], x + columns)
    if top < bottom and left < right:
        result[top:bottom, left:right] = image[top - y : bottom - y, left - x : right - x]
    return result


def _resample(
    light_HWC: Floats, soft_HW: Images, shape: tuple[int, ...], transform: ScaleTranslate
) -> tuple[Floats, Floats]:
    """Resample light times alpha, and alpha 0..1, onto zeros in a frame of ``shape``.

    Bicubic, after a blur when the scale is small.
    """
    opacity_HW = soft_HW * np.float32(1 / 255)
    premultiplied = [cv2.multiply(channel, opacity_HW) for channel in cv2.split(light_HWC)]
    # OpenCV's origin is the center of the first pixel.
    offset = 0.5 * transform.scale - 0.5 - _BICUBIC_SUPPORT * transform.scale
    matrix = np.array(
        [[transform.scale, 0, transform.x + offset], [0, transform.scale, transform.y + offset]]
    )
    resampled: list[Floats] = []
    sigma = 0.5 * float(np.sqrt(1 / min(transform.scale, 1.0) ** 2 - 1))
    for layer in (cv2.merge(premultiplied), opacity_HW):
        blurred = (
            cv2.GaussianBlur(layer, (0, 0), sigmaX=sigma)
            if transform.scale < _PREBLUR_SCALE
            else layer
        )
        # A figure must not fade out where the source's frame cuts it off.
        padded = cv2.copyMakeBorder(
            blurred,
            _BICUBIC_SUPPORT,
            _BICUBIC_SUPPORT,
            _BICUBIC_SUPPORT,
            _BICUBIC_SUPPORT,
            cv2.BORDER_REPLICATE,
        )
        warped = cv2.warpAffine(padded, matrix, shape[::-1], flags=cv2.INTER_CUBIC)
        # Bicubic interpolation overshoots.
        resampled.append(np.clip(warped, 0, 1))
    return resampled[0], resampled[1]


def _contact_shadow(alpha_HW: Floats, strength: float) -> Floats:
    """Compute a contact shadow: share of the light that remains around a figure's feet, 0 to 1."""
    height, width = alpha_HW.shape
    shade = np.ones((height, width), np.float32)
    solid = (alpha_HW >= 0.5).astype(np.uint8)
    _, top, figure_width, figure_height = cv2.boundingRect(solid)
    if not figure_width or top + figure_height == height:
        # The feet are below the frame: no ground contact.
        return shade
    bottom = top + figure_height
    feet = solid[top + round(figure_height * (1 - _SHADOW_FEET)) : bottom]
    left, _, feet_width, _ = cv2.boundingRect(feet)
    center = (left + feet_width / 2, bottom - 0.25 * _SHADOW_HEIGHT * feet_width)
    axes = (max(1, round(0.55 * feet_width)), max(1, round(0.5 * _SHADOW_HEIGHT * feet_width)))
    cv2.ellipse(
        shade, (round(center[0]), round(center[1])), axes, 0, 0, 360, 1 - strength, cv2.FILLED
    )
    blurred: Floats = cv2.GaussianBlur(
        shade, (0, 0), sigmaX=max(1.0, 0.04 * feet_width), borderType=cv2.BORDER_REPLICATE
    )
    return blurred


def _target_region(
    alpha_HW: Images,
    region: FrameRegion,
    transform: ScaleTranslate,
    options: PasteOptions,
    size: tuple[int, int],
) -> FrameRegion | None:
    """Return the region of the background that a figure and its shadow can touch."""
    x, y, width, height = cv2.boundingRect(alpha_HW)
    x0 = transform.scale * (region.x0 + x) + transform.x
    y0 = transform.scale * (region.y0 + y) + transform.y
    x1, y1 = x0 + transform.scale * width, y0 + transform.scale * height
    margin = 4 + (0.25 * (x1 - x0) if options.shadow > 0 else 0)
    return enclosing_region(x0 - margin, y0 - margin, x1 + margin, y1 + margin, *size)
