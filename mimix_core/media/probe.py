"""Video stream properties (display geometry, color, clock) and the errors of unusable files."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from mimix_core.errors import BadInput
from mimix_core.tables.rows import Reason


class UnreadableVideo(BadInput):
    """The file cannot be read as a video.

    ``what`` contains no path, because it may be stored in a table. ``reason``: the reason of a row
    that failed because of this error.
    """

    reason: ClassVar[Reason] = Reason.UNREADABLE_VIDEO


class NoVideoStream(UnreadableVideo):
    """The file is readable media, but has no video stream."""

    reason: ClassVar[Reason] = Reason.NO_VIDEO_STREAM


class TruncatedVideo(UnreadableVideo):
    """The frames end well before the end that the file states."""

    reason: ClassVar[Reason] = Reason.VIDEO_TRUNCATED


class DamagedVideo(UnreadableVideo):
    """Decoding fails midway, or the timestamps do not increase."""

    reason: ClassVar[Reason] = Reason.VIDEO_DAMAGED


class TooLargeVideo(UnreadableVideo):
    """The frames are implausibly large; nothing was decoded."""

    reason: ClassVar[Reason] = Reason.VIDEO_TOO_LARGE


@dataclass(frozen=True)
class Rect:
    """A rectangle in integer pixels; x and y of its top left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Geometry:
    """The mapping from coded frames to displayed frames.

    ``sample_aspect``: width / height of a coded pixel. ``mirrored``: for display, left and right of
    the coded frame are exchanged before it is rotated by ``rotation`` degrees clockwise (0, 90,
    180, 270). "As displayed" means after all of these.
    """

    coded_width: int
    coded_height: int
    sample_aspect: Fraction = Fraction(1)
    rotation: int = 0
    mirrored: bool = False

    @property
    def keeps_orientation(self) -> bool:
        """False when the rotation swaps width and height."""
        return self.rotation % 180 == 0

    @property
    def square_width(self) -> int:
        """Width with square pixels, before rotation."""
        if self.sample_aspect == 1:
            return self.coded_width
        # Only the width is scaled; the height never changes.
        return max(2, round(self.coded_width * self.sample_aspect / 2) * 2)

    @property
    def width(self) -> int:
        """Width as displayed, pixels."""
        return self.square_width if self.keeps_orientation else self.coded_height

    @property
    def height(self) -> int:
        """Height as displayed, pixels."""
        return self.coded_height if self.keeps_orientation else self.square_width

    def to_coded_rect(self, displayed: Rect) -> Rect:
        """Convert a rectangle as displayed to coded pixels."""
        wide, high = self.square_width, self.coded_height
        x, y, w, h = displayed.x, displayed.y, displayed.width, displayed.height
        if self.rotation == 90:
            x, y, w, h = y, high - x - w, h, w
        elif self.rotation == 180:
            x, y = wide - x - w, high - y - h
        elif self.rotation == 270:
            x, y, w, h = wide - y - h, x, h, w
        if self.mirrored:
            x = wide - x - w
        left = round(Fraction(x * self.coded_width, wide))
        right = round(Fraction((x + w) * self.coded_width, wide))
        return Rect(left, y, right - left, h)


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video stream.

    ``matrix``: libswscale's name of the YCbCr matrix (bt709, smpte170m, bt2020). ``full_range``:
    luma 0..255 instead of 16..235. ``pixel_format``: FFmpeg's name. ``rate``: the average frame
    rate, for information only. ``expected_frames``: the count stated by the container; 0: unknown.
    """

    time_base: Fraction
    geometry: Geometry
    matrix: str
    full_range: bool
    pixel_format: str
    rate: Fraction
    expected_frames: int


_ORIENTATIONS: Mapping[tuple[int, ...], tuple[int, bool]] = {
    (1, 0, 0, 1): (0, False),
    (0, 1, -1, 0): (90, False),
    (-1, 0, 0, -1): (180, False),
    (0, -1, 1, 0): (270, False),
    (-1, 0, 0, 1): (0, True),
    (0, -1, -1, 0): (90, True),
    (1, 0, 0, -1): (180, True),
    (0, 1, 1, 0): (270, True),
}
"""Rotation and mirroring by the signs of a display matrix (a, b, c, d), which moves the coded pixel
(x, y) to (a x + c y, b x + d y)."""


def _read_orientation(frame: Any) -> tuple[int, bool]:
    """Read a frame's rotation (degrees clockwise) and mirroring from its display matrix.

    Angles in between are rounded to quarter turns: they would need resampling.
    """
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV does not know the kind of some other data of this frame.
        return round(-frame.rotation / 90) * 90 % 360, False
    if matrix is None:
        return 0, False
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        b = c = 0
    else:
        a = d = 0
    signs = tuple((value > 0) - (value < 0) for value in (a, b, c, d))
    return _ORIENTATIONS.get(signs, (0, False))


_MATRICES = {1: "bt709", 4: "fcc", 5: "smpte170m", 6: "smpte170m", 7: "smpte240m", 9: "bt2020"}
_FULL_RANGE = 2
_MIN_SIDE = 16
"""Pixels. Smaller frames are not real footage, and could vanish when cropped to even sizes."""
_HDR = {16: "PQ", 18: "HLG"}


def read_video_info(stream: Any, frame: Any) -> VideoInfo:
    """Read the stream's properties from its header and its first decoded ``frame``.

    Without a stated YCbCr matrix, BT.709 is assumed from 720 lines up and BT.601 below, as players
    do. Raises UnreadableVideo for frames of a few pixels, and for high dynamic range: without tone
    mapping it looks gray, and choosing a tone mapping needs visual judgement.
    """
    if min(frame.width, frame.height) < _MIN_SIDE:
        raise UnreadableVideo(f"frames of only {frame.width}x{frame.height} pixels")
    hdr = _HDR.get(int(frame.color_trc))
    if hdr is not None:
        raise UnreadableVideo(
            f"the video has high dynamic range ({hdr})",
            fix="Tone-map it to BT.709 first (for example with FFmpeg's zscale and tonemap).",
        )
    aspect = stream.sample_aspect_ratio
    rotation, mirrored = _read_orientation(frame)
    geometry = Geometry(
        coded_width=frame.width,
        coded_height=frame.height,
        sample_aspect=Fraction(aspect) if aspect else Fraction(1),
        rotation=rotation,
        mirrored=mirrored,
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
