"""Pasting as a compositor does: premultiplied alpha, in linear light, with a soft edge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.composites.place import Placement, Size

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Exposure is matched by a quarter of the difference, in this range: mood, never the style.
_GAIN_POWER, _GAIN_RANGE = 0.25, (0.87, 1.15)
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_SHEET_TILE = 640


def _to_linear() -> Floats:
    """Display value (8 bit) -> linear light, by sRGB's curve (IEC 61966-2-1)."""
    x = np.arange(256) / 255
    linear: Floats = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )
    return linear


def _to_display() -> Images:
    """Linear light (16 bit) -> display value (8 bit), the inverse of the above."""
    x = np.arange(65536) / 65535
    display = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    result: Images = np.rint(display * 255).astype(np.uint8)
    return result


LINEAR, DISPLAY = _to_linear(), _to_display()


def soften(alpha_HW: Images, feather: float) -> Floats:
    """Alpha 0..1 with an edge of about ``feather`` pixels, drawn inwards.

    Inwards, because the outermost pixels of a character hold its old background. Sides that the
    frame cuts stay sharp.
    """
    alpha: Floats = (alpha_HW / 255).astype(np.float32)
    if feather == 0:
        return alpha
    shrunk = cv2.erode(alpha, np.ones((3, 3), np.uint8))
    soft: Floats = cv2.GaussianBlur(
        shrunk, (0, 0), sigmaX=feather / 2, borderType=cv2.BORDER_REPLICATE
    )
    result: Floats = np.minimum(soft, alpha)
    return result


def decontaminate(light_HWC: Floats, alpha_HW: Images) -> Floats:
    """``light_HWC`` with the colours of the outermost two pixels taken from further inside.

    A camera and an encoder mix a character's border with what was behind it; pasted elsewhere,
    that shows as a ring. Where nothing lies further inside (hairs), the colours stay.
    """
    core = cv2.erode((alpha_HW >= 250).astype(np.float32), np.ones((5, 5), np.uint8))
    weight = cv2.GaussianBlur(core, (0, 0), sigmaX=2)
    inner = cv2.GaussianBlur(light_HWC * core[..., None], (0, 0), sigmaX=2)
    rim = (core == 0) & (alpha_HW > 0) & (weight > 0.02)
    result = light_HWC.copy()
    result[rim] = inner[rim] / weight[rim][..., None]
    return result


def exposure(source_NHWC: Images, alpha_NHW: Images, scene_NHWC: Images) -> float:
    """One gain in linear light for the whole clip, towards the scene's mean luminance."""
    some = range(0, len(source_NHWC), max(1, len(source_NHWC) // 5))
    weights = sum(float(alpha_NHW[n].sum()) for n in some)
    if weights == 0:
        return 1.0
    own = sum(float((LINEAR[source_NHWC[n]] @ _LUMINANCE * alpha_NHW[n]).sum()) for n in some)
    around = float(np.mean([(LINEAR[scene_NHWC[n]] @ _LUMINANCE).mean() for n in some]))
    ratio = max(around, 1e-4) / max(own / weights, 1e-4)
    return float(np.clip(ratio**_GAIN_POWER, *_GAIN_RANGE))


def composite(
    source_NHWC: Images,
    alpha_NHW: Images,
    scene_NHWC: Images,
    placement: Placement,
    *,
    gain: float,
    feather: float,
) -> Iterator[Images]:
    """The composited frames, uint8 RGB of the scene's size, one after the other.

    ``source_NHWC`` and ``alpha_NHW`` have one size, ``scene_NHWC`` its own; all have as many
    frames. Pixels the cutout does not reach are the scene's, bit by bit.
    """
    for source_HWC, alpha_HW, scene_HWC in zip(source_NHWC, alpha_NHW, scene_NHWC, strict=True):
        yield paste(source_HWC, alpha_HW, scene_HWC, placement, gain=gain, feather=feather)


def paste(
    source_HWC: Images,
    alpha_HW: Images,
    scene_HWC: Images,
    placement: Placement,
    *,
    gain: float,
    feather: float,
) -> Images:
    """One frame of ``composite``."""
    result = scene_HWC.copy()
    soft = soften(alpha_HW, feather)
    if not soft.any():
        return result
    own = _around(soft > 0, margin=4)
    premultiplied = np.zeros((*alpha_HW.shape, 4), np.float32)
    premultiplied[own][..., 3] = soft[own]
    light = LINEAR[source_HWC[own]]
    if feather > 0:
        light = decontaminate(light, alpha_HW[own])
    light = np.minimum(light * np.float32(gain), 1.0)
    premultiplied[own][..., :3] = light * soft[own][..., None]
    size = placement.scaled(Size(alpha_HW.shape[1], alpha_HW.shape[0]))
    if (size.height, size.width) != alpha_HW.shape:
        how = cv2.INTER_AREA if placement.scale < 1 else cv2.INTER_LINEAR
        premultiplied = cv2.resize(premultiplied, (size.width, size.height), interpolation=how)
    there, here = _meeting(size, placement, scene_HWC.shape)
    pasted = premultiplied[there]
    touched = pasted[..., 3] > 0
    if not touched.any():
        return result
    light = pasted[..., :3] + (1 - pasted[..., 3:]) * LINEAR[scene_HWC[here]]
    display = DISPLAY[np.rint(np.clip(light, 0, 1) * 65535).astype(np.uint16)]
    result[here] = np.where(touched[..., None], display, scene_HWC[here])
    return result


Window = tuple[slice, slice]


def _around(mask_HW: NDArray[np.bool_], *, margin: int) -> Window:
    """The rows and columns of a mask and ``margin`` pixels more, as far as the frame goes."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + 1 + margin),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + 1 + margin),
    )


def _meeting(size: Size, placement: Placement, scene: tuple[int, ...]) -> tuple[Window, Window]:
    """The rows and columns shared with the scene: in the scaled source, and in the scene."""
    windows: list[tuple[slice, slice]] = []
    sides = ((size.height, placement.y, scene[0]), (size.width, placement.x, scene[1]))
    for length, at, limit in sides:
        start, end = max(0, at), max(0, min(limit, at + length))
        end = max(start, end)
        windows.append((slice(start - at, end - at), slice(start, end)))
    (rows_there, rows_here), (columns_there, columns_here) = windows
    return (rows_there, columns_there), (rows_here, columns_here)


def write_sheet(
    path: Path, source_HWC: Images, alpha_HW: Images, scene_HWC: Images, result_HWC: Images
) -> None:
    """A JPEG of one frame: source, source with the mask's outline, background, result."""
    outlined = source_HWC.copy()
    contours, _ = cv2.findContours(
        (alpha_HW >= 128).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(outlined, contours, -1, (255, 0, 255), 3)
    height = round(_SHEET_TILE * scene_HWC.shape[0] / scene_HWC.shape[1])
    tiles = [
        cv2.resize(image, (_SHEET_TILE, height), interpolation=cv2.INTER_AREA)
        for image in (source_HWC, outlined, scene_HWC, result_HWC)
    ]
    sheet = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])
    written, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90]
    )
    if not written:
        raise ValueError(f"{path.name} cannot be written as JPEG")
    path.write_bytes(jpeg.tobytes())
