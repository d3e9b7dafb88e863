"""Small pictures of decoded frames, in whole numbers throughout: the same on every machine.

The planes of a decoded frame are looked at where the decoder left them, and averaged down by
halves: no conversion at full size, which would cost as much as the decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

THUMB_SIZE = (32, 18)
"""Width and height of a thumbnail's luma; its two chroma planes have half of each."""

Bytes = NDArray[np.uint8]
Samples = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Small:
    """A frame at reduced sizes; 8 bit, full range.

    ``luma`` [height, width] and ``half`` [height / 2, width / 2], the same averaged once more;
    ``bgr`` [height / 2, width / 2, 3]; ``thumb`` [values]: luma and chroma of a thumbnail.
    """

    luma: Bytes
    half: Bytes
    bgr: Bytes
    thumb: Bytes


class Reducer:
    """Makes the small pictures of the frames of one video.

    ``height``: lines of the ``luma`` pictures, or the video's own where it has fewer. All frames
    come out at the size of the first.
    """

    def __init__(self, first: Any, *, height: int, full_range: bool) -> None:
        lines = min(height, first.height)
        self._size = (max(2, round(first.width * lines / first.height)), max(2, lines))
        self._half = (max(1, self._size[0] // 2), max(1, self._size[1] // 2))
        self._chroma_thumb = (THUMB_SIZE[0] // 2, THUMB_SIZE[1] // 2)
        self._levels = None if full_range else _stretched()

    def __call__(self, frame: Any) -> Small:
        planes, bits = _planes(frame)
        luma = shrink(planes[0], self._size, bits)
        blue, red = (shrink(plane, self._half, bits) for plane in planes[1:])
        if self._levels is not None:
            luma = cv2.LUT(luma, self._levels[0])
            blue, red = (cv2.LUT(plane, self._levels[1]) for plane in (blue, red))
        half = shrink(luma, self._half)
        thumb = np.concatenate(
            [
                shrink(half, THUMB_SIZE).ravel(),
                shrink(blue, self._chroma_thumb).ravel(),
                shrink(red, self._chroma_thumb).ravel(),
            ]
        )
        bgr = cv2.cvtColor(cv2.merge((half, red, blue)), cv2.COLOR_YCrCb2BGR)
        return Small(luma, half, bgr, thumb)


def shrink(plane: Samples, size: tuple[int, int], bits: int = 8) -> Bytes:
    """``plane`` of ``bits`` a sample at ``size`` (width, height), 8 bits a sample."""
    width, height = size
    while plane.shape[0] >= 2 * height and plane.shape[1] >= 2 * width:
        high, wide = plane.shape[0] // 2, plane.shape[1] // 2
        plane = cv2.resize(
            plane[: 2 * high, : 2 * wide], (wide, high), interpolation=cv2.INTER_AREA
        )
    eight = (plane if bits == 8 else plane >> (bits - 8)).astype(np.uint8, copy=False)
    if eight.shape != (height, width):
        # The exact kind computes in whole numbers, whatever the processor.
        eight = cv2.resize(eight, size, interpolation=cv2.INTER_LINEAR_EXACT)
    return eight


def _planes(frame: Any) -> tuple[list[Samples], int]:
    """Y, U and V of a frame as views of the decoder's own memory, and the bits of a sample."""
    form = frame.format
    bits = max(component.bits for component in form.components)
    wide = bits > 8
    readable = bits == 8 or form.name.endswith("le")
    if form.name.startswith("yuv") and form.is_planar and readable:
        return [_view(plane, wide) for plane in frame.planes[:3]], bits
    if form.name.startswith("gray") and readable:
        luma = _view(frame.planes[0], wide)
        neutral = np.full((1, 1), 1 << (bits - 1), luma.dtype)
        return [luma, neutral, neutral], bits
    return [_view(plane, False) for plane in frame.reformat(format="yuv420p").planes], 8


def _view(plane: Any, wide: bool) -> Samples:
    kind = np.dtype(np.uint16 if wide else np.uint8)
    rows: Samples = np.frombuffer(plane, kind).reshape(plane.height, -1)
    return rows[:, : plane.width]


def _stretched() -> tuple[Bytes, Bytes]:
    """Tables from limited to full range, for luma and for chroma; in integer arithmetic."""
    values = np.arange(256)
    luma = ((values - 16) * 255 + 109) // 219
    chroma = ((values - 128) * 255 + 112) // 224 + 128
    return luma.clip(0, 255).astype(np.uint8), chroma.clip(0, 255).astype(np.uint8)
