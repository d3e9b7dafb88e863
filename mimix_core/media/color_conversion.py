"""Between a decoder's colours and RGB, each value rounded to the nearest level.

libswscale's default cuts fractions off, each way: RGB comes out a level too dark, a picture that
goes there and back two. It rounds when asked to, and into planar RGB hardly slower than it cuts.
"""

from __future__ import annotations

from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]

_ROUNDED_BICUBIC = 0x4 | 0x2000 | 0x40000 | 0x80000
"""libswscale's SWS_BICUBIC, SWS_FULL_CHR_H_INT, SWS_ACCURATE_RND and SWS_BITEXACT.

PyAV 15 has a name for the first only.
"""


def plane_of(plane: Any) -> Images:
    """The values of a frame's plane, uint8 [height, width]: its own memory, not a copy."""
    rows: Images = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def rgb_of(
    frame: Any,
    *,
    matrix: str = "ITU709",
    full_range: bool = False,
    width: int | None = None,
    height: int | None = None,
    by: Any = None,
) -> Images:
    """A frame as uint8 RGB [height, width, 3], scaled to ``width`` and ``height`` if given.

    ``matrix``: PyAV's name for the frame's colours. ``by``: an ``av`` VideoReformatter that is
    kept, so that a size is prepared for once.
    """
    planar = (by or av.video.reformatter.VideoReformatter()).reformat(
        frame,
        width,
        height,
        format="gbrp",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range="JPEG" if full_range else "MPEG",
        dst_color_range="JPEG",
        interpolation=_ROUNDED_BICUBIC,
        threads=1,
    )
    green, blue, red = (plane_of(plane) for plane in planar.planes)
    image: Images = cv2.merge((red, green, blue))
    return image


def frame_of_rgb(image_HWC: Images, *, by: Any = None) -> Any:
    """A new ``av.VideoFrame`` of an RGB picture with even sides: yuv420p, BT.709, limited range."""
    height, width = image_HWC.shape[:2]
    planar = av.VideoFrame(width, height, "gbrp")
    red, green, blue = cv2.split(image_HWC)
    for plane, values in zip(planar.planes, (green, blue, red), strict=True):
        plane_of(plane)[:] = values
    return (by or av.video.reformatter.VideoReformatter()).reformat(
        planar,
        format="yuv420p",
        src_colorspace="ITU709",
        dst_colorspace="ITU709",
        src_color_range="JPEG",
        dst_color_range="MPEG",
        interpolation=_ROUNDED_BICUBIC,
        threads=1,
    )
