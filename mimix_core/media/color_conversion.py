"""Conversion between decoded YUV frames and RGB, with each value rounded to the nearest level.

By default libswscale truncates in both directions: RGB comes out one level too dark, and a frame
converted to RGB and back two levels. With rounding flags and planar RGB it rounds at little cost.
"""

from __future__ import annotations

from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]

_BICUBIC_WITH_ROUNDING = 0x4 | 0x2000 | 0x40000 | 0x80000
"""libswscale's SWS_BICUBIC, SWS_FULL_CHR_H_INT, SWS_ACCURATE_RND and SWS_BITEXACT.

PyAV 15 names only the first one.
"""


def plane_array(plane: Any) -> Images:
    """View a frame's plane as uint8 [height, width], sharing its memory."""
    rows: Images = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def frame_to_rgb(
    frame: Any,
    *,
    matrix: str = "ITU709",
    full_range: bool = False,
    width: int | None = None,
    height: int | None = None,
    reformatter: Any = None,
) -> Images:
    """Convert a frame to uint8 RGB [height, width, 3], scaled to ``width`` and ``height`` if given.

    ``matrix``: PyAV's name of the frame's color matrix. ``reformatter``: an ``av``
    VideoReformatter to reuse between frames, which saves setting it up for each one.
    """
    planar = (reformatter or av.video.reformatter.VideoReformatter()).reformat(
        frame,
        width,
        height,
        format="gbrp",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range="JPEG" if full_range else "MPEG",
        dst_color_range="JPEG",
        interpolation=_BICUBIC_WITH_ROUNDING,
        threads=1,
    )
    green, blue, red = (plane_array(plane) for plane in planar.planes)
    image: Images = cv2.merge((red, green, blue))
    return image


def rgb_to_frame(image_HWC: Images, *, reformatter: Any = None) -> Any:
    """Convert an RGB image with even sides to a yuv420p BT.709 limited-range ``av.VideoFrame``."""
    height, width = image_HWC.shape[:2]
    planar = av.VideoFrame(width, height, "gbrp")
    red, green, blue = cv2.split(image_HWC)
    for plane, values in zip(planar.planes, (green, blue, red), strict=True):
        plane_array(plane)[:] = values
    return (reformatter or av.video.reformatter.VideoReformatter()).reformat(
        planar,
        format="yuv420p",
        src_colorspace="ITU709",
        dst_colorspace="ITU709",
        src_color_range="JPEG",
        dst_color_range="MPEG",
        interpolation=_BICUBIC_WITH_ROUNDING,
        threads=1,
    )
