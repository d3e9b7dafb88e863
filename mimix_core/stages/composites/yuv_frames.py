"""Convert regions of decoded YUV frames to RGB and paste RGB regions back into YUV frames.

Clips are yuv420p, BT.709, limited range. Only the region of a frame that a figure touches is
converted to RGB and back: all other pixels of the background stay bit-identical to the decoded
frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mimix_core.media import open_video
from mimix_core.media.color_conversion import frame_to_rgb, plane_array, rgb_to_frame
from mimix_core.stages.composites.linear_light import Images

_SIZE_STEP = 32
"""Region sides are multiples of this, so the color converter is set up for few sizes."""


@dataclass(frozen=True)
class FrameRegion:
    """A region of a frame, aligned to 2 x 2 blocks."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The region in the luma plane: rows and columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def chroma_window(self) -> tuple[slice, slice]:
        """The region in the chroma planes."""
        return slice(self.y0 // 2, self.y1 // 2), slice(self.x0 // 2, self.x1 // 2)


def enclosing_region(
    x0: float, y0: float, x1: float, y1: float, width: int, height: int
) -> FrameRegion | None:
    """Return the aligned region of a frame that encloses a box; None if they do not overlap."""
    left, right = _aligned_range(x0, x1, width)
    top, bottom = _aligned_range(y0, y1, height)
    return FrameRegion(left, top, right, bottom) if left < right and top < bottom else None


def _aligned_range(begin: float, end: float, limit: int) -> tuple[int, int]:
    first, last = max(0, int(np.floor(begin))), min(limit, int(np.ceil(end)))
    if first >= last:
        return 0, 0
    first -= first % 2
    length = min(-(-(last - first) // _SIZE_STEP) * _SIZE_STEP, limit)
    return min(first, limit - length), min(first, limit - length) + length


@dataclass(frozen=True)
class YuvPlanes:
    """The luma plane [height, width] and both chroma planes [height / 2, width / 2]."""

    y_HW: Images
    u_HW: Images
    v_HW: Images

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.y_HW.shape[1], self.y_HW.shape[0]

    def crop(self, region: FrameRegion) -> YuvPlanes:
        """Return views of the planes in a region."""
        return YuvPlanes(
            self.y_HW[region.window],
            self.u_HW[region.chroma_window],
            self.v_HW[region.chroma_window],
        )


def read_yuv_frames(path: Path) -> list[YuvPlanes]:
    """Read all frames of a clip. Raises UnreadableVideo, ValueError for another pixel format."""
    with open_video(path, threads=2) as video:
        info = video.info
        if info.pixel_format != "yuv420p" or info.matrix != "bt709" or info.full_range:
            raise ValueError(
                f"{path.name} is {info.pixel_format} {info.matrix}, not a clip of MiMix"
            )
        return [_planes(frame) for frame in video.frames()]


def _planes(frame: Any) -> YuvPlanes:
    # Views of the decoder's memory, which lives as long as the arrays.
    return YuvPlanes(*(plane_array(plane) for plane in frame.planes))


def to_video_frame(planes: YuvPlanes) -> Any:
    """Create an ``av.VideoFrame``, yuv420p."""
    width, height = planes.size
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane, values in zip(frame.planes, (planes.y_HW, planes.u_HW, planes.v_HW), strict=True):
        plane_array(plane)[:] = values
    return frame


class ColorConverter:
    """Convert frame regions between YUV and RGB; caches the setup for each size."""

    def __init__(self) -> None:
        self._to_rgb = av.video.reformatter.VideoReformatter()
        self._to_yuv = av.video.reformatter.VideoReformatter()

    def to_rgb(self, planes: YuvPlanes) -> Images:
        """Convert to uint8 RGB [height, width, 3]."""
        return frame_to_rgb(to_video_frame(planes), reformatter=self._to_rgb)

    def to_planes(self, image_HWC: Images) -> YuvPlanes:
        """Convert an RGB image with even sides to planes."""
        return _planes(rgb_to_frame(image_HWC, reformatter=self._to_yuv))


def paste_region(
    background: YuvPlanes, region: FrameRegion, pasted: YuvPlanes, touched_HW: NDArray[np.bool_]
) -> YuvPlanes:
    """Replace the pixels of a region marked in ``touched_HW`` by those of ``pasted``."""
    y_HW, u_HW, v_HW = (
        plane.copy() for plane in (background.y_HW, background.u_HW, background.v_HW)
    )
    np.copyto(y_HW[region.window], pasted.y_HW, where=touched_HW)
    upper, lower = touched_HW[::2], touched_HW[1::2]
    blocks = upper[:, ::2] | upper[:, 1::2] | lower[:, ::2] | lower[:, 1::2]
    np.copyto(u_HW[region.chroma_window], pasted.u_HW, where=blocks)
    np.copyto(v_HW[region.chroma_window], pasted.v_HW, where=blocks)
    return YuvPlanes(y_HW, u_HW, v_HW)


def sample_luma(planes: Sequence[YuvPlanes], step: int = 4) -> list[Images]:
    """Sample luma 0..255 at every ``step``-th pixel of rows and columns."""
    return [
        np.clip((p.y_HW[::step, ::step].astype(np.float32) - 16) * (255 / 219), 0, 255).astype(
            np.uint8
        )
        for p in planes
    ]
