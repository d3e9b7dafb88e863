"""From a decoded frame to the picture of a clip: crop, scale, turn, pad, in BT.709."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.color_conversion import rgb_of
from mimix_core.media.container import words
from mimix_core.media.probe import Rect, UnreadableVideo, VideoInfo

# Fixed rounding in libswscale, so that a frame has the same bytes on every machine.
SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+bitexact"

# One matrix, three spellings: libswscale's filter, libavfilter's buffers, PyAV.
_BUFFER_MATRICES = {"bt2020": "bt2020nc"}
_REFORMAT_MATRICES = {"bt709": "ITU709", "bt2020": "bt2020"}


@dataclass(frozen=True)
class Shape:
    """Which pixels as shown are kept, at which size they are drawn, and on which canvas."""

    crop: Rect
    drawn_width: int
    drawn_height: int
    width: int
    height: int


def fit(area: Rect, width: int, height: int, how: Literal["crop", "pad"]) -> Shape:
    """Bring ``area`` (pixels as shown) to ``width`` x ``height`` with its aspect ratio kept.

    ``crop`` takes the largest centred part of the right aspect ratio; ``pad`` draws all of it and
    leaves black bars. All sizes come out even; evening them bends the aspect by 2 pixels at most.
    """
    aspect = Fraction(width, height)
    if how == "crop":
        wide = min(area.width, _even(area.height * aspect))
        high = min(area.height, _even(area.width / aspect))
        crop = Rect(
            area.x + _even(Fraction(area.width - wide, 2)),
            area.y + _even(Fraction(area.height - high, 2)),
            wide,
            high,
        )
        return Shape(crop, width, height, width, height)
    scale = min(Fraction(width, area.width), Fraction(height, area.height))
    return Shape(
        area,
        min(width, _even(area.width * scale)),
        min(height, _even(area.height * scale)),
        width,
        height,
    )


class Shaper:
    """Turns decoded frames into yuv420p BT.709 limited-range frames of one ``Shape``.

    Raises UnreadableVideo for pictures that FFmpeg's filters do not take.
    """

    def __init__(self, info: VideoInfo, shape: Shape) -> None:
        geometry = info.geometry
        crop = geometry.coded(shape.crop)
        drawn = (shape.drawn_width, shape.drawn_height)
        scaled = drawn if geometry.upright else drawn[::-1]
        steps = [
            ("crop", f"{crop.width}:{crop.height}:{crop.x}:{crop.y}"),
            (
                "scale",
                f"{scaled[0]}:{scaled[1]}:flags={SCALE_FLAGS}"
                f":in_color_matrix={info.matrix}:out_color_matrix=bt709"
                f":in_range={'full' if info.full_range else 'limited'}:out_range=limited",
            ),
            ("format", "yuv420p"),
        ]
        turns = {
            90: ("transpose", "clock"),
            180: ("transpose", "clock"),
            270: ("transpose", "cclock"),
        }
        if geometry.rotation:
            steps += [turns[geometry.rotation]] * (2 if geometry.rotation == 180 else 1)
        if drawn != (shape.width, shape.height):
            steps.append(("pad", f"{shape.width}:{shape.height}:-1:-1:black"))
        steps.append(("setsar", "1"))
        with _taken():
            self._graph = _graph(info, steps)

    def __call__(self, frame: Any) -> Any:
        """The shaped picture of one frame, a new ``av.VideoFrame``."""
        with _taken():
            self._graph.vpush(frame)
            return self._graph.vpull()


@contextmanager
def _taken() -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise UnreadableVideo(f"the pictures cannot be scaled ({words(error)})") from error


def shown_rgb(frame: Any, info: VideoInfo) -> NDArray[np.uint8]:
    """A decoded frame as a person sees it: uint8 RGB, shape [height, width, 3]."""
    image = rgb_of(
        frame,
        matrix=_REFORMAT_MATRICES.get(info.matrix, "ITU601"),
        full_range=info.full_range,
        width=info.geometry.square_width,
        height=info.geometry.coded_height,
    )
    turned: NDArray[np.uint8] = np.rot90(image, -info.geometry.rotation // 90)
    return np.ascontiguousarray(turned)


def _graph(info: VideoInfo, steps: list[tuple[str, str]]) -> Any:
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


def _even(value: Fraction | int) -> int:
    return int(value // 2) * 2
