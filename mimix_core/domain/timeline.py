"""Exact time: PTS, time base, and the grid, of 1/16 or 1/24 s, on which clips are sampled.

No decision in MiMix depends on float seconds. A stream's presentation timestamps (PTS) are
integers in units of its time base, a ``Fraction`` of a second; grid points are exact fractions.
Floats appear only in text for people.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

CLIP_FRAMES = 81
"""Frames of a clip: 4k + 1 with k = 20, as Wan's VAE requires (paper, section 3.3)."""

CLIP_RATE = Fraction(16)
"""Frames per second of a clip, unless the settings say otherwise (paper, section 3.3)."""

CLIP_SECONDS = 5
"""Seconds from the first to the last frame of the longest clip: 81 frames at 16/s, 121 at 24/s."""

_MAX_TIME_LENGTH = 80
"""Number of characters of a written time, and of digits before or after its point."""


@dataclass(frozen=True)
class Span:
    """A half-open interval [start, end) of one stream, in PTS of ``time_base`` seconds each."""

    start: int
    end: int
    time_base: Fraction

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"a span cannot end ({self.end}) before it starts ({self.start})")

    @property
    def seconds(self) -> Fraction:
        """Return the span's duration in seconds."""
        return (self.end - self.start) * self.time_base


def parse_seconds(text: str | int | Decimal | Fraction) -> Fraction:
    """Parse seconds from ``12``, ``"3.25"``, ``"1:02.5"`` or ``"1:02:03.5"``, exactly.

    Raises ValueError for anything else, and for numbers that no video's time has, whose exact value
    would not fit into memory; floats are rejected because they are not exact.
    """
    if isinstance(text, float):
        raise ValueError(f'write the time {text} in quotes, as "{text}": a float is not exact')
    refusal = f"{str(text)[:_MAX_TIME_LENGTH]!r} is not a time: write seconds, m:s or h:m:s"
    if isinstance(text, bool) or not isinstance(text, str | int | Decimal | Fraction):
        raise ValueError(refusal)
    if not isinstance(text, str):
        return Fraction(text)
    parts = text.strip().split(":")
    if not 1 <= len(parts) <= 3 or len(text) > _MAX_TIME_LENGTH:
        raise ValueError(refusal)
    try:
        decimals = [Decimal(part) for part in parts]
        if any(abs(number.adjusted()) > _MAX_TIME_LENGTH for number in decimals):
            raise ValueError(refusal)
        numbers = [Fraction(number) for number in decimals]
    except (ArithmeticError, ValueError) as error:
        raise ValueError(refusal) from error
    if any(number < 0 for number in numbers):
        raise ValueError(f"{text!r} is not a time: it is negative")
    total = Fraction(0)
    for number in numbers:
        total = total * 60 + number
    return total


def format_time(seconds: Fraction) -> str:
    """Format a time of an episode as ``h:mm:ss.s``, never later than it is."""
    tenths = int(seconds * 10 // 1)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes // 60}:{minutes % 60:02}:{rest // 10:02}.{rest % 10}"


def grid_times(
    start: Fraction, frames: int = CLIP_FRAMES, rate: Fraction = CLIP_RATE
) -> list[Fraction]:
    """Return the grid times g_k = start + k / rate, k = 0 .. frames - 1, in seconds."""
    return [start + k / rate for k in range(frames)]


def clip_duration(frames: int = CLIP_FRAMES, rate: Fraction = CLIP_RATE) -> Fraction:
    """Return a clip's duration in seconds: 81 frames at 16/s play 5.0625 s (80 intervals: 5 s)."""
    return frames / rate


def preceding_frame_indices(
    pts: Sequence[int], time_base: Fraction, times: Sequence[Fraction]
) -> list[int]:
    """For each time, find the index of the last frame shown at or before it.

    ``pts``: sorted PTS of all frames. Raises ValueError when a time lies before the first frame.
    """
    indices = []
    for time in times:
        # floor(time / time_base) is the last tick at or before the time: integers from here on.
        index = bisect_right(pts, int(time // time_base)) - 1
        if index < 0:
            raise ValueError(f"no frame at or before {float(time):.6f} s")
        indices.append(index)
    return indices


def clip_start_times(
    scene: Span,
    *,
    frames: int = CLIP_FRAMES,
    rate: Fraction = CLIP_RATE,
    stride: Fraction | None = None,
    margin: Fraction = Fraction(0),
) -> list[Fraction]:
    """Return the start times, in seconds, of all clips that fit into a scene.

    The first clip starts ``margin`` seconds into the scene, each of the others ``stride`` seconds
    after the previous one (by default a clip's duration: no overlap). Every clip ends ``margin``
    seconds before the scene's end or earlier: g_80 + 1/16 <= end - margin.
    """
    duration = clip_duration(frames, rate)
    step = duration if stride is None else stride
    if step <= 0:
        raise ValueError("stride must be positive")
    start = scene.start * scene.time_base + margin
    last = scene.end * scene.time_base - margin - duration
    starts = []
    while start <= last:
        starts.append(start)
        start += step
    return starts
