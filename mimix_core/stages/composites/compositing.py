"""Pasting as a compositor does: alpha over in linear light, with a soft, steady, clean edge.

Almost all of a figure is solid, and almost all of a scene is not reached by it: only the pixels in
between are mixed, and only they go through linear light one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.composites.alpha import extended, soften, steady
from mimix_core.stages.composites.linear_light import (
    Floats,
    Images,
    brightened,
    display,
    exposure,
    linear,
)
from mimix_core.stages.composites.scale_translate import Move
from mimix_core.stages.composites.yuv_frames import Colours, Part, Planes, luma, part, put

_MARGIN = 6
"""Pixels around a figure that its edge is computed with."""

_SAMPLED = 5
"""Frames that the exposure is matched on."""

_RIM = 2
"""Pixels that bicubic interpolation reaches."""

_MUCH = 0.75
"""Shrunk to less, pixels are lost between those that bicubic interpolation looks at."""

_LEAST_ALPHA = np.float32(1e-4)
"""Less would change no pixel: white on black by a third of a level."""

_SHADOW_HEIGHT, _SHADOW_FEET = 0.12, 0.1
"""A contact shadow's height (share of its width), and the part of the figure that stands."""


@dataclass(frozen=True)
class Look:
    """How figures are pasted. ``gain``: their brightness in linear light; ``feather``: pixels;
    ``shadow``: how much of the light is gone where they stand, 0 to 1."""

    gain: float = 1.0
    feather: float = 1.5
    shadow: float = 0.0


def matched(source: Sequence[Planes], alphas_NHW: Images, scene: Sequence[Planes]) -> float:
    """The gain that brings a figure a little nearer to its scene's brightness."""
    some = range(0, len(source), max(1, len(source) // _SAMPLED))
    return exposure(
        luma([source[n] for n in some]),
        [alphas_NHW[n][::4, ::4] for n in some],
        luma([scene[n] for n in some]),
    )


def composite(
    source: Sequence[Planes],
    alphas_NHW: Images,
    scene: Sequence[Planes],
    path: Sequence[Move],
    look: Look,
) -> Iterator[Planes]:
    """The composited frames, one after the other: the scene's, changed where the figure is.

    ``source`` and ``alphas_NHW`` have one size, ``scene`` its own; all have as many frames.
    """
    colours = Colours()
    boxes = [cv2.boundingRect(alpha_HW) for alpha_HW in alphas_NHW]
    for n, (own, there, move) in enumerate(zip(source, scene, path, strict=True)):
        x, y, across, along = boxes[n]
        where = part(x - _MARGIN, y - _MARGIN, x + across + _MARGIN, y + along + _MARGIN, *own.size)
        if across == 0 or where is None:
            yield there
        else:
            near = alphas_NHW[max(n - 1, 0) : n + 2, *where.window]
            alpha_HW = steady(near, min(n, 1))
            yield _frame(own.cut(where), alpha_HW, where, there, move, look, colours)


def _frame(
    source: Planes,
    alpha_HW: Images,
    where: Part,
    scene: Planes,
    move: Move,
    look: Look,
    colours: Colours,
) -> Planes:
    """One frame; ``source`` and ``alpha_HW`` are what lies at ``where`` in the source's."""
    there = _landing(alpha_HW, where, move, look, scene.size)
    if there is None:
        return scene
    made_HWC, touched_HW = paste(
        colours.rgb(source),
        alpha_HW,
        colours.rgb(scene.cut(there)),
        Move(
            move.scale,
            move.scale * where.x0 + move.x - there.x0,
            move.scale * where.y0 + move.y - there.y0,
        ),
        look,
    )
    return put(scene, there, colours.planes(made_HWC), touched_HW)


def paste(
    source_HWC: Images, alpha_HW: Images, scene_HWC: Images, move: Move, look: Look
) -> tuple[Images, NDArray[np.bool_]]:
    """One picture over another: the result, and where it is not the scene.

    Pixels that nothing touches are the scene's, bit by bit; and where a figure comes to lie pixel
    on pixel, its solid ones are its own, but for the gain.
    """
    shape = scene_HWC.shape[:2]
    soft_HW = soften(alpha_HW, look.feather)
    light_HWC, rim_HW = linear(source_HWC), np.zeros(alpha_HW.shape, np.bool_)
    if look.feather > 0:
        light_HWC, rim_HW = extended(light_HWC, alpha_HW)
    result = scene_HWC.copy()
    if move.whole:
        soft_HW, over_HWC = _shifted(soft_HW, shape, move), _shifted(light_HWC, shape, move)
        solid_HW = (soft_HW == 255) & ~_shifted(rim_HW, shape, move)
        own_HWC = brightened(_shifted(source_HWC, shape, move), look.gain)
        opacity_HW = soft_HW * np.float32(1 / 255)
    else:
        over_HWC, opacity_HW = _landed(light_HWC, soft_HW, shape, move)
        solid_HW = opacity_HW > 1 - _LEAST_ALPHA
        own_HWC = display(over_HWC * np.float32(look.gain))
    cv2.copyTo(own_HWC, solid_HW.view(np.uint8), result)
    mixed_HW = opacity_HW > _LEAST_ALPHA
    shade: Floats | np.float32 = np.float32(1)
    if look.shadow > 0:
        shade_HW = _contact(opacity_HW, look.shadow)
        mixed_HW |= shade_HW < 1 - _LEAST_ALPHA
    mixed_HW &= ~solid_HW
    mixed = np.flatnonzero(mixed_HW)
    if not mixed.size:
        return result, solid_HW
    if look.shadow > 0:
        shade = shade_HW.reshape(-1, 1)[mixed]
    opacity = opacity_HW.reshape(-1, 1)[mixed]
    over = over_HWC.reshape(-1, 3)[mixed]
    if move.whole:
        over *= opacity
    under = linear(scene_HWC.reshape(-1, 3)[mixed]) * shade
    # Brighter than white is white, before it is mixed with anything.
    over = np.minimum(over * np.float32(look.gain), opacity)
    result.reshape(-1, 3)[mixed] = display(over + (1 - opacity) * under)
    return result, solid_HW | mixed_HW


def _shifted(picture: NDArray[Any], shape: tuple[int, ...], move: Move) -> NDArray[Any]:
    """``picture`` after a whole ``move``, on zeros, in a frame of ``shape``."""
    result = np.zeros((*shape, *picture.shape[2:]), picture.dtype)
    x, y = int(move.x), int(move.y)
    rows, columns = picture.shape[:2]
    top, left = max(0, y), max(0, x)
    bottom, right = min(shape[0], y + rows), min(shape[1], x + columns)
    if top < bottom and left < right:
        result[top:bottom, left:right] = picture[top - y : bottom - y, left - x : right - x]
    return result


def _landed(
    light_HWC: Floats, soft_HW: Images, shape: tuple[int, ...], move: Move
) -> tuple[Floats, Floats]:
    """Light times alpha, and alpha 0..1, after ``move``, on nothing, in a frame of ``shape``.

    Bicubic, after a blur where it shrinks by much.
    """
    opacity_HW = soft_HW * np.float32(1 / 255)
    colours = [cv2.multiply(one, opacity_HW) for one in cv2.split(light_HWC)]
    # OpenCV counts from the middle of the first pixel.
    middle = 0.5 * move.scale - 0.5 - _RIM * move.scale
    matrix = np.array([[move.scale, 0, move.x + middle], [0, move.scale, move.y + middle]])
    landed: list[Floats] = []
    sigma = 0.5 * float(np.sqrt(1 / min(move.scale, 1.0) ** 2 - 1))
    for layer in (cv2.merge(colours), opacity_HW):
        smooth = cv2.GaussianBlur(layer, (0, 0), sigmaX=sigma) if move.scale < _MUCH else layer
        # What the source's frame cuts off must not fade out there.
        wide = cv2.copyMakeBorder(smooth, _RIM, _RIM, _RIM, _RIM, cv2.BORDER_REPLICATE)
        moved = cv2.warpAffine(wide, matrix, shape[::-1], flags=cv2.INTER_CUBIC)
        # Bicubic weights are negative in places.
        landed.append(np.clip(moved, 0, 1))
    return landed[0], landed[1]


def _contact(alpha_HW: Floats, strength: float) -> Floats:
    """Share of the scene's light that is left around a figure's feet, 0 to 1."""
    height, width = alpha_HW.shape
    shade = np.ones((height, width), np.float32)
    solid = (alpha_HW >= 0.5).astype(np.uint8)
    _, top, across, along = cv2.boundingRect(solid)
    if not across or top + along == height:
        # Whose feet are below the picture stands nowhere in it.
        return shade
    feet = solid[top + round(along * (1 - _SHADOW_FEET)) : top + along]
    first, _, wide, _ = cv2.boundingRect(feet)
    centre = (first + wide / 2, top + along - 0.25 * _SHADOW_HEIGHT * wide)
    axes = (max(1, round(0.55 * wide)), max(1, round(0.5 * _SHADOW_HEIGHT * wide)))
    cv2.ellipse(
        shade, (round(centre[0]), round(centre[1])), axes, 0, 0, 360, 1 - strength, cv2.FILLED
    )
    blurred: Floats = cv2.GaussianBlur(
        shade, (0, 0), sigmaX=max(1.0, 0.04 * wide), borderType=cv2.BORDER_REPLICATE
    )
    return blurred


def _landing(
    alpha_HW: Images, where: Part, move: Move, look: Look, size: tuple[int, int]
) -> Part | None:
    """The part of the scene that a figure, and its shadow, can touch."""
    x, y, across, along = cv2.boundingRect(alpha_HW)
    x0, y0 = move.scale * (where.x0 + x) + move.x, move.scale * (where.y0 + y) + move.y
    x1, y1 = x0 + move.scale * across, y0 + move.scale * along
    margin = 4 + (0.25 * (x1 - x0) if look.shadow > 0 else 0)
    return part(x0 - margin, y0 - margin, x1 + margin, y1 + margin, *size)
