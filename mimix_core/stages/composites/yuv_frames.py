"""Parts of decoded frames as pictures, and pictures back into frames.

Clips are yuv420p, BT.709, limited range. Only the part of a frame that a figure touches is turned
into RGB and back: all else of the scene stays as it was decoded, bit by bit.
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
from mimix_core.media.color_conversion import frame_of_rgb, plane_of, rgb_of
from mimix_core.stages.composites.linear_light import Images

_STEP = 32
"""Parts have sides of so many pixels or a multiple, so that few sizes have to be prepared for."""


@dataclass(frozen=True)
class Part:
    """Rows and columns of a frame, whole 2 x 2 blocks of it."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def blocks(self) -> tuple[slice, slice]:
        """The same, of the planes of colour difference."""
        return slice(self.y0 // 2, self.y1 // 2), slice(self.x0 // 2, self.x1 // 2)


def part(x0: float, y0: float, x1: float, y1: float, width: int, height: int) -> Part | None:
    """The part of a frame that holds a box; None when they do not meet."""
    left, right = _sides(x0, x1, width)
    top, bottom = _sides(y0, y1, height)
    return Part(left, top, right, bottom) if left < right and top < bottom else None


def _sides(begin: float, end: float, limit: int) -> tuple[int, int]:
    first, last = max(0, int(np.floor(begin))), min(limit, int(np.ceil(end)))
    if first >= last:
        return 0, 0
    first -= first % 2
    length = min(-(-(last - first) // _STEP) * _STEP, limit)
    return min(first, limit - length), min(first, limit - length) + length


@dataclass(frozen=True)
class Planes:
    """Brightness [height, width] and both colour differences [height / 2, width / 2]."""

    y_HW: Images
    u_HW: Images
    v_HW: Images

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.y_HW.shape[1], self.y_HW.shape[0]

    def cut(self, there: Part) -> Planes:
        return Planes(self.y_HW[there.window], self.u_HW[there.blocks], self.v_HW[there.blocks])


def read_planes(path: Path) -> list[Planes]:
    """All frames of a clip. Raises UnreadableVideo, ValueError for what is no clip of MiMix."""
    with open_video(path, threads=2) as video:
        info = video.info
        if info.pixel_format != "yuv420p" or info.matrix != "bt709" or info.full_range:
            raise ValueError(f"{path.name} is {info.pixel_format} {info.matrix}, no clip of MiMix")
        return [_planes(frame) for frame in video.frames()]


def _planes(frame: Any) -> Planes:
    # The decoder's own memory, which lives as long as the array that looks at it.
    return Planes(*(plane_of(plane) for plane in frame.planes))


def frame_of(planes: Planes) -> Any:
    """A new ``av.VideoFrame``, yuv420p."""
    width, height = planes.size
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane, values in zip(frame.planes, (planes.y_HW, planes.u_HW, planes.v_HW), strict=True):
        plane_of(plane)[:] = values
    return frame


class Colours:
    """Turns parts of clips into RGB and back; keeps what each size needs prepared."""

    def __init__(self) -> None:
        self._there = av.video.reformatter.VideoReformatter()
        self._back = av.video.reformatter.VideoReformatter()

    def rgb(self, planes: Planes) -> Images:
        """uint8 RGB [height, width, 3]."""
        return rgb_of(frame_of(planes), by=self._there)

    def planes(self, image_HWC: Images) -> Planes:
        """Planes of an RGB picture with even sides."""
        return _planes(frame_of_rgb(image_HWC, by=self._back))


def put(scene: Planes, there: Part, made: Planes, touched_HW: NDArray[np.bool_]) -> Planes:
    """``scene`` with what ``touched_HW`` marks of a part taken from ``made``."""
    y_HW, u_HW, v_HW = (plane.copy() for plane in (scene.y_HW, scene.u_HW, scene.v_HW))
    np.copyto(y_HW[there.window], made.y_HW, where=touched_HW)
    upper, lower = touched_HW[::2], touched_HW[1::2]
    blocks = upper[:, ::2] | upper[:, 1::2] | lower[:, ::2] | lower[:, 1::2]
    np.copyto(u_HW[there.blocks], made.u_HW, where=blocks)
    np.copyto(v_HW[there.blocks], made.v_HW, where=blocks)
    return Planes(y_HW, u_HW, v_HW)


def luma(planes: Sequence[Planes], step: int = 4) -> list[Images]:
    """Brightness 0..255 of every ``step``-th pixel each way."""
    return [
        np.clip((p.y_HW[::step, ::step].astype(np.float32) - 16) * (255 / 219), 0, 255).astype(
            np.uint8
        )
        for p in planes
    ]
