"""The kinds of encoding and of images that are difficult: an episode of each is generated.

``CASES`` cover each kind of encoding with simple images: soft still backdrops and a faint bar.
``MOVING`` cover one kind of encoding with images that hide a dissolve: every scene pans across a
high-contrast texture at 1 to 3 pixels per frame (at ``SIZE``), in either direction, with
hard-edged shapes in half of them; the bar inverts what it covers; dissolves of 6 to 48 frames, and
fades. No scene is used twice, and each case has a different seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from mimix_core.media import ScanType
from tests.episode_plan import Join

NTSC, FILM = Fraction(30000, 1001), Fraction(24000, 1001)


@dataclass(frozen=True)
class Case:
    """How an episode is encoded.

    ``scan_type``: how its instants become frames; ``pulldown``: number of fields of successive film
    frames. ``flag``: the field flag of the coded frames, if it is wrong. ``start``: time of the
    first frame, seconds. ``trim``: seconds cut off the front by an edit list. ``blend``: instants
    of a dissolve, or of each half of a fade. ``pan``: 0 for a simple image, or the pixels per
    instant by which a high-contrast texture moves, a different one for each ``seed``.
    """

    name: str
    suffix: str = ".mp4"
    codec: str = "libx264"
    pixels: str = "yuv420p"
    rate: Fraction = Fraction(24)
    join: Join = "cut"
    b_frames: int = 2
    gop: int = 48
    start: Fraction = Fraction(0)
    trim: Fraction = Fraction(0)
    jitter: bool = False
    sound: bool = False
    scan_type: ScanType = ScanType.PROGRESSIVE
    pulldown: tuple[int, ...] = (2, 3)
    flag: Literal["tff", "bff", "prog"] | None = None
    matrix: str = "ITU601"
    tags: Mapping[str, int] = field(default_factory=dict)
    full_range: bool = False
    aspect: Fraction = Fraction(1)
    rotation: int = 0
    blend: int = 14
    pan: int = 0
    seed: int = 0
    options: Mapping[str, str] = field(default_factory=dict)


CASES = (
    Case("cuts"),
    Case("dissolves", ".mkv", rate=Fraction(25), join="dissolve"),
    Case("fades", join="fade"),
    Case("variable-rate", jitter=True),
    Case("many-b-frames", b_frames=8, gop=250, options={"x264-params": "b-pyramid=normal:ref=5"}),
    Case("open-gops", ".mkv", b_frames=3, gop=24, options={"x264-params": "open-gop=1"}),
    Case("transport-stream", ".ts", rate=Fraction(25), sound=True),
    Case("late-start", ".mkv", start=Fraction(7, 3)),
    Case("sound-first", ".mkv", start=Fraction(3, 2), sound=True),
    Case("edit-list", trim=Fraction(5, 4), gop=60),
    Case("hevc", codec="libx265", options={"x265-params": "log-level=none:pools=1"}),
    Case(
        "hevc-10-bit",
        ".mkv",
        codec="libx265",
        pixels="yuv420p10le",
        matrix="ITU709",
        tags={"colorspace": 1},
        options={"x265-params": "log-level=none:pools=1"},
    ),
    Case("10-bit-422", ".mkv", pixels="yuv422p10le", rate=Fraction(50)),
    Case("422", pixels="yuv422p"),
    Case("444", ".mkv", pixels="yuv444p", rate=NTSC),
    Case("full-range", full_range=True, tags={"color_range": 2}),
    Case("bt601", matrix="ITU601", tags={"colorspace": 6}),
    Case("bt709", matrix="ITU709", tags={"colorspace": 1}, rate=FILM),
    Case("bt2020", matrix="bt2020", tags={"colorspace": 9, "color_primaries": 9}),
    Case("anamorphic", aspect=Fraction(16, 11)),
    Case("is_rotated", rotation=90, rate=Fraction(30)),
    Case("upside-down", rotation=180),
    Case("avi", ".avi", codec="mpeg4"),
    Case("mpeg2-interlaced", ".ts", codec="mpeg2video", rate=Fraction(25), scan_type=ScanType.TFF),
    Case("h264-interlaced", ".mkv", rate=NTSC, scan_type=ScanType.BFF),
    Case("interlaced-said-progressive", rate=Fraction(25), scan_type=ScanType.TFF, flag="prog"),
    Case("progressive-said-interlaced", rate=Fraction(25), flag="tff"),
    Case("telecine", rate=NTSC, scan_type=ScanType.TELECINE, flag="tff"),
    Case("telecine-said-progressive", ".mkv", rate=NTSC, scan_type=ScanType.TELECINE, flag="prog"),
    Case(
        "telecine-2332", rate=NTSC, scan_type=ScanType.TELECINE, pulldown=(2, 3, 3, 2), flag="tff"
    ),
)

MOVING = (
    Case("moving-dissolves-6", join="dissolve", blend=6, pan=3, seed=1),
    Case("moving-dissolves-12", join="dissolve", blend=12, pan=2, seed=2),
    Case(
        "moving-dissolves-18", ".mkv", rate=Fraction(25), join="dissolve", blend=18, pan=3, seed=3
    ),
    Case("moving-dissolves-24", join="dissolve", blend=24, pan=1, seed=4),
    Case("moving-dissolves-30", ".mkv", rate=NTSC, join="dissolve", blend=30, pan=3, seed=5),
    Case("moving-dissolves-36", join="dissolve", blend=36, pan=2, seed=6),
    Case("moving-dissolves-48", join="dissolve", blend=48, pan=3, seed=7),
    Case("moving-dissolves-48-slow", join="dissolve", blend=48, pan=1, seed=8),
    Case("moving-fades", join="fade", blend=20, pan=3, seed=9),
    Case("moving-cuts", pan=3, seed=10),
)
