"""What a video is: its geometry as shown, its colours, its clock. And the ways to be none."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from mimix_core.errors import BadInput
from mimix_core.tables.rows import Reason


class UnreadableVideo(BadInput):
    """The file cannot be read as a video. ``what`` holds no path: it may stand in a table.

    ``reason``: what a row says that failed for it.
    """

    reason: ClassVar[Reason] = Reason.UNREADABLE_VIDEO


class NoVideoStream(UnreadableVideo):
    """The file is readable media, but has no moving pictures."""

    reason: ClassVar[Reason] = Reason.NO_VIDEO_STREAM


class TruncatedVideo(UnreadableVideo):
    """The pictures end well before the end that the file promises."""

    reason: ClassVar[Reason] = Reason.VIDEO_TRUNCATED


class DamagedVideo(UnreadableVideo):
    """Decoding breaks off in the middle, or the timestamps are no order of frames."""

    reason: ClassVar[Reason] = Reason.VIDEO_DAMAGED


class TooLargeVideo(UnreadableVideo):
    """The pictures are larger than any film's: nothing was decoded."""

    reason: ClassVar[Reason] = Reason.VIDEO_TOO_LARGE


@dataclass(frozen=True)
class Rect:
    """A rectangle in whole pixels; x and y of its top left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Geometry:
    """How coded pixels become the picture a person sees.

    ``sample_aspect``: width / height of a coded pixel. ``rotation``: degrees clockwise (0, 90,
    180, 270) by which the coded picture is turned for showing. "As shown" means after both.
    """

    coded_width: int
    coded_height: int
    sample_aspect: Fraction = Fraction(1)
    rotation: int = 0

    @property
    def upright(self) -> bool:
        """False when showing swaps width and height."""
        return self.rotation % 180 == 0

    @property
    def square_width(self) -> int:
        """Width with square pixels, before rotation."""
        if self.sample_aspect == 1:
            return self.coded_width
        # Wide pixels stretch the width, narrow ones shrink it: the height always stays.
        return max(2, round(self.coded_width * self.sample_aspect / 2) * 2)

    @property
    def width(self) -> int:
        """Width as shown, pixels."""
        return self.square_width if self.upright else self.coded_height

    @property
    def height(self) -> int:
        """Height as shown, pixels."""
        return self.coded_height if self.upright else self.square_width

    def coded(self, shown: Rect) -> Rect:
        """The rectangle of coded pixels behind a rectangle as shown."""
        wide, high = self.square_width, self.coded_height
        x, y, w, h = shown.x, shown.y, shown.width, shown.height
        if self.rotation == 90:
            x, y, w, h = y, high - x - w, h, w
        elif self.rotation == 180:
            x, y = wide - x - w, high - y - h
        elif self.rotation == 270:
            x, y, w, h = wide - y - h, x, h, w
        left = round(Fraction(x * self.coded_width, wide))
        right = round(Fraction((x + w) * self.coded_width, wide))
        return Rect(left, y, right - left, h)


@dataclass(frozen=True)
class VideoInfo:
    """One video stream.

    ``matrix``: YCbCr matrix as libswscale names it (bt709, smpte170m, bt2020). ``full_range``:
    luma 0..255 instead of 16..235. ``pixel_format``: FFmpeg's name. ``rate``: the average frame
    rate, for people only. ``expected_frames``: what the container claims; 0: nothing.
    """

    time_base: Fraction
    geometry: Geometry
    matrix: str
    full_range: bool
    pixel_format: str
    rate: Fraction
    expected_frames: int


_MATRICES = {1: "bt709", 4: "fcc", 5: "smpte170m", 6: "smpte170m", 7: "smpte240m", 9: "bt2020"}
_FULL_RANGE = 2
_MIN_SIDE = 16
"""Pixels. Smaller pictures are no film's: of some nothing would be left once cropped to be even."""
_HDR = {16: "PQ", 18: "HLG"}


def describe(stream: Any, frame: Any) -> VideoInfo:
    """What the stream is, judged by its header and its first decoded ``frame``.

    A file that does not state its YCbCr matrix is taken for BT.709 from 720 lines up and for
    BT.601 below, as players do. Raises UnreadableVideo for pictures of a few pixels, and for high
    dynamic range: shown as it is it would be grey, and how to map its light to a screen's is a
    choice to be made with the eyes.
    """
    if min(frame.width, frame.height) < _MIN_SIDE:
        raise UnreadableVideo(f"pictures of only {frame.width}x{frame.height} pixels")
    hdr = _HDR.get(int(frame.color_trc))
    if hdr is not None:
        raise UnreadableVideo(
            f"the video has high dynamic range ({hdr})",
            fix="Tone-map it to BT.709 first (for example with FFmpeg's zscale and tonemap).",
        )
    aspect = stream.sample_aspect_ratio
    geometry = Geometry(
        coded_width=frame.width,
        coded_height=frame.height,
        sample_aspect=Fraction(aspect) if aspect else Fraction(1),
        # FFmpeg counts counterclockwise; only quarter turns can be shown without new pixels.
        rotation=round(-frame.rotation / 90) * 90 % 360,
    )
    guess = "bt709" if max(frame.height, frame.width * 9 // 16) >= 720 else "smpte170m"
    return VideoInfo(
        time_base=Fraction(stream.time_base),
        geometry=geometry,
        matrix=_MATRICES.get(int(frame.colorspace), guess),
        full_range=int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj"),
        pixel_format=frame.format.name,
        rate=Fraction(stream.average_rate or 0),
        expected_frames=stream.frames,
    )
