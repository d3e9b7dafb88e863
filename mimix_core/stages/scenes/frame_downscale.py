"""Downscaling of decoded frames in integer arithmetic: the same result on every machine.

The planes are read from the decoder's own memory and repeatedly halved by averaging. Converting
frames at full size would cost as much as decoding them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

THUMBNAIL_SIZE = (32, 18)
"""Width and height of a thumbnail's luma; its two chroma planes have half of each."""

ByteArray = NDArray[np.uint8]
Samples = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class AnalysisFrame:
    """A frame at reduced sizes; 8 bit, full range.

    ``luma`` [height, width]; ``half_luma`` [height / 2, width / 2], luma averaged once more;
    ``bgr`` [height / 2, width / 2, 3]; ``thumbnail`` [values]: luma and chroma of a thumbnail.
    """

    luma: ByteArray
    half_luma: ByteArray
    bgr: ByteArray
    thumbnail: ByteArray


class FrameDownscaler:
    """Downscales the frames of one video.

    ``height``: height of ``luma``, limited to the video's own. All frames are scaled to the same
    size, derived from the first.
    """

    def __init__(self, first: Any, *, height: int, full_range: bool) -> None:
        lines = min(height, first.height)
        self._size = (max(2, round(first.width * lines / first.height)), max(2, lines))
        self._half_size = (max(1, self._size[0] // 2), max(1, self._size[1] // 2))
        self._chroma_thumbnail_size = (THUMBNAIL_SIZE[0] // 2, THUMBNAIL_SIZE[1] // 2)
        self._range_tables = None if full_range else _full_range_tables()

    def __call__(self, frame: Any) -> AnalysisFrame:
        planes, bits = _planes(frame)
        luma = downscale_plane(planes[0], self._size, bits)
        blue, red = (downscale_plane(plane, self._half_size, bits) for plane in planes[1:])
        if self._range_tables is not None:
            luma = cv2.LUT(luma, self._range_tables[0])
            blue, red = (cv2.LUT(plane, self._range_tables[1]) for plane in (blue, red))
        half_luma = downscale_plane(luma, self._half_size)
        thumbnail = np.concatenate(
            [
                downscale_plane(half_luma, THUMBNAIL_SIZE).ravel(),
                downscale_plane(blue, self._chroma_thumbnail_size).ravel(),
                downscale_plane(red, self._chroma_thumbnail_size).ravel(),
            ]
        )
        bgr = cv2.cvtColor(cv2.merge((half_luma, red, blue)), cv2.COLOR_YCrCb2BGR)
        return AnalysisFrame(luma, half_luma, bgr, thumbnail)


def downscale_plane(plane: Samples, size: tuple[int, int], bits: int = 8) -> ByteArray:
    """Scale a plane of ``bits`` per sample to ``size`` (width, height) with 8 bits per sample."""
    width, height = size
    while plane.shape[0] >= 2 * height and plane.shape[1] >= 2 * width:
        high, wide = plane.shape[0] // 2, plane.shape[1] // 2
        plane = cv2.resize(
            plane[: 2 * high, : 2 * wide], (wide, high), interpolation=cv2.INTER_AREA
        )
    result = (plane if bits == 8 else plane >> (bits - 8)).astype(np.uint8, copy=False)
    if result.shape != (height, width):
        # The exact variant uses integer arithmetic on every processor.
        result = cv2.resize(result, size, interpolation=cv2.INTER_LINEAR_EXACT)
    return result


def _planes(frame: Any) -> tuple[list[Samples], int]:
    """Return Y, U and V, as views of the decoder's memory if possible, and the bits per sample."""
    pixel_format = frame.format
    bits = max(component.bits for component in pixel_format.components)
    wide = bits > 8
    readable = bits == 8 or pixel_format.name.endswith("le")
    if pixel_format.name.startswith("yuv") and pixel_format.is_planar and readable:
        return [_view(plane, wide) for plane in frame.planes[:3]], bits
    if pixel_format.name.startswith("gray") and readable:
        luma = _view(frame.planes[0], wide)
        neutral = np.full((1, 1), 1 << (bits - 1), luma.dtype)
        return [luma, neutral, neutral], bits
    return [_view(plane, False) for plane in frame.reformat(format="yuv420p").planes], 8


def _view(plane: Any, wide: bool) -> Samples:
    dtype = np.dtype(np.uint16 if wide else np.uint8)
    rows: Samples = np.frombuffer(plane, dtype).reshape(plane.height, -1)
    return rows[:, : plane.width]


def _full_range_tables() -> tuple[ByteArray, ByteArray]:
    """Build lookup tables from limited to full range for luma and chroma."""
    values = np.arange(256)
    luma = ((values - 16) * 255 + 109) // 219
    chroma = ((values - 128) * 255 + 112) // 224 + 128
    return luma.clip(0, 255).astype(np.uint8), chroma.clip(0, 255).astype(np.uint8)
