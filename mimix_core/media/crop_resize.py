"""Conversion of decoded frames to a clip's frame size: crop, scale, rotate and pad, in BT.709."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.color_conversion import frame_to_rgb
from mimix_core.media.container import error_text
from mimix_core.media.probe import Rect, UnreadableVideo, VideoInfo

# Bit-exact rounding in libswscale: a frame has the same bytes on every machine.
SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+bitexact"

# libswscale's filter, libavfilter's buffers and PyAV spell the same matrix differently.
_BUFFER_MATRICES = {"bt2020": "bt2020nc"}
_REFORMAT_MATRICES = {"bt709": "ITU709", "bt2020": "bt2020"}


@dataclass(frozen=True)
class CropResize:
    """The crop (pixels as displayed), the size it is scaled to, and the size of the output frame.

    Where ``scaled_*`` is smaller than ``width`` x ``height``, black bars fill the rest.
    """

    crop: Rect
    scaled_width: int
    scaled_height: int
    width: int
    height: int


def plan_crop_resize(
    area: Rect, width: int, height: int, mode: Literal["crop", "pad"]
) -> CropResize:
    """Fit ``area`` (pixels as displayed) into ``width`` x ``height``, preserving its aspect ratio.

    Mode ``crop`` takes the largest centered part with the target aspect ratio; ``pad`` scales the
    complete area and adds black bars. All sizes are rounded to even numbers, which changes the
    aspect ratio by at most 2 pixels.
    """
    aspect = Fraction(width, height)
    if mode == "crop":
        wide = min(area.width, _floor_to_even(area.height * aspect))
        high = min(area.height, _floor_to_even(area.width / aspect))
        crop = Rect(
            area.x + _floor_to_even(Fraction(area.width - wide, 2)),
            area.y + _floor_to_even(Fraction(area.height - high, 2)),
            wide,
            high,
        )
        return CropResize(crop, width, height, width, height)
    scale = min(Fraction(width, area.width), Fraction(height, area.height))
    return CropResize(
        area,
        min(width, _floor_to_even(area.width * scale)),
        min(height, _floor_to_even(area.height * scale)),
        width,
        height,
    )


def move_crop(
    crop_resize: CropResize, wanted: Rect, frame_width: int, frame_height: int
) -> CropResize:
    """Move a crop to the center of ``wanted``, in its own size and within the frame.

    Position and size are as even as ``plan_crop_resize`` makes them.
    """
    size = (crop_resize.crop.width, crop_resize.crop.height)
    centers = (Fraction(2 * wanted.x + wanted.width, 2), Fraction(2 * wanted.y + wanted.height, 2))
    x, y = (
        min(max(0, _floor_to_even(center - Fraction(side, 2))), _floor_to_even(frame - side))
        for center, side, frame in zip(centers, size, (frame_width, frame_height), strict=True)
    )
    return replace(crop_resize, crop=Rect(x, y, *size))


class FrameResizer:
    """Converts decoded frames to yuv420p BT.709 limited-range frames according to a ``CropResize``.

    Raises UnreadableVideo for frames that FFmpeg's filters reject.
    """

    def __init__(self, info: VideoInfo, crop_resize: CropResize) -> None:
        geometry = info.geometry
        crop = geometry.to_coded_rect(crop_resize.crop)
        scaled_size = (crop_resize.scaled_width, crop_resize.scaled_height)
        coded_size = scaled_size if geometry.keeps_orientation else scaled_size[::-1]
        steps = [
            ("crop", f"{crop.width}:{crop.height}:{crop.x}:{crop.y}"),
            (
                "scale",
                f"{coded_size[0]}:{coded_size[1]}:flags={SCALE_FLAGS}"
                f":in_color_matrix={info.matrix}:out_color_matrix=bt709"
                f":in_range={'full' if info.full_range else 'limited'}:out_range=limited",
            ),
            ("format", "yuv420p"),
        ]
        rotations = {
            90: ("transpose", "clock"),
            180: ("transpose", "clock"),
            270: ("transpose", "cclock"),
        }
        if geometry.mirrored:
            steps.append(("hflip", ""))
        if geometry.rotation:
            steps += [rotations[geometry.rotation]] * (2 if geometry.rotation == 180 else 1)
        if scaled_size != (crop_resize.width, crop_resize.height):
            steps.append(("pad", f"{crop_resize.width}:{crop_resize.height}:-1:-1:black"))
        steps.append(("setsar", "1"))
        with _scaling_errors():
            self._graph = _build_graph(info, steps)

    def __call__(self, frame: Any) -> Any:
        """Convert one frame to a new ``av.VideoFrame``."""
        with _scaling_errors():
            self._graph.vpush(frame)
            return self._graph.vpull()


@contextmanager
def _scaling_errors() -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise UnreadableVideo(f"the frames cannot be scaled ({error_text(error)})") from error


def to_display_rgb(frame: Any, info: VideoInfo) -> NDArray[np.uint8]:
    """Convert a decoded frame to uint8 RGB [height, width, 3] as displayed."""
    image = frame_to_rgb(
        frame,
        matrix=_REFORMAT_MATRICES.get(info.matrix, "ITU601"),
        full_range=info.full_range,
        width=info.geometry.square_width,
        height=info.geometry.coded_height,
    )
    if info.geometry.mirrored:
        image = image[:, ::-1]
    rotated: NDArray[np.uint8] = np.rot90(image, -info.geometry.rotation // 90)
    return np.ascontiguousarray(rotated)


def _build_graph(info: VideoInfo, steps: list[tuple[str, str]]) -> Any:
    graph = av.filter.Graph()
    graph.threads = 1
    last = graph.add(
        "buffer",
        video_size=f"{info.geometry.coded_width}x{info.geometry.coded_height}",
        pix_fmt=info.pixel_format,
        time_base=str(info.time_base),
        pixel_aspect="1/1",
        colorspace=_BUFFER_MATRICES.get(info.matrix, info.matrix),
        range="full" if info.full_range else "limited",
    )
    for name, arguments in steps:
        step = graph.add(name, arguments)
        last.link_to(step)
        last = step
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _floor_to_even(value: Fraction | int) -> int:
    return int(value // 2) * 2
