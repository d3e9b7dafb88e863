"""Integer time: PTS, time base, and the 1/16 s grid that clips are sampled on.

No decision in MiMix is made on float seconds. A stream's presentation timestamps (PTS) are
integers in units of its time base, a ``Fraction`` of a second; grid points are exact fractions.
Floats appear only where a person reads them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

CLIP_FRAMES = 81
"""Frames of a clip: 4k + 1 with k = 20, what Wan's VAE wants (paper, section 3.3)."""

CLIP_RATE = Fraction(16)
"""Frames a second of a clip (paper, section 3.3)."""


@dataclass(frozen=True)
class Span:
    """A half-open stretch [start, end) of one stream, in PTS of ``time_base`` seconds each."""

    start: int
    end: int
    time_base: Fraction

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"a span cannot end ({self.end}) before it starts ({self.start})")

    @property
    def seconds(self) -> Fraction:
        return (self.end - self.start) * self.time_base


def exact_seconds(text: str | int | Decimal | Fraction) -> Fraction:
    """Seconds from ``12``, ``"3.25"``, ``"1:02.5"`` or ``"1:02:03.5"``, exactly.

    Raises ValueError for anything else; floats are refused since they are not exact.
    """
    if isinstance(text, float):
        raise ValueError(f'write the time {text} in quotes, as "{text}": a float is not exact')
    if not isinstance(text, str):
        return Fraction(text)
    parts = text.strip().split(":")
    if not 1 <= len(parts) <= 3:
        raise ValueError(f"{text!r} is no time: write seconds, m:s or h:m:s")
    try:
        numbers = [Fraction(Decimal(part)) for part in parts]
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"{text!r} is no time: write seconds, m:s or h:m:s") from error
    if any(number < 0 for number in numbers):
        raise ValueError(f"{text!r} is no time: it is negative")
    total = Fraction(0)
    for number in numbers:
        total = total * 60 + number
    return total


def grid(start: Fraction, frames: int = CLIP_FRAMES, rate: Fraction = CLIP_RATE) -> list[Fraction]:
    """Grid times g_k = start + k / rate, k = 0 .. frames - 1, in seconds."""
    return [start + k / rate for k in range(frames)]


def clip_duration(frames: int = CLIP_FRAMES, rate: Fraction = CLIP_RATE) -> Fraction:
    """How long ``frames`` play: 81 at 16/s play 81/16 = 5.0625 s (80 intervals are 5 s)."""
    return frames / rate


def nearest_previous(
    pts: Sequence[int], time_base: Fraction, times: Sequence[Fraction]
) -> list[int]:
    """For each time the index into sorted ``pts`` of the last frame shown at or before it.

    Raises ValueError when a time lies before the first frame.
    """
    indices = []
    for time in times:
        # floor(time / time_base) is the last tick at or before the time: integers from here on.
        index = bisect_right(pts, int(time // time_base)) - 1
        if index < 0:
            raise ValueError(f"no frame at or before {float(time):.6f} s")
        indices.append(index)
    return indices


def clip_starts(
    scene: Span,
    *,
    frames: int = CLIP_FRAMES,
    rate: Fraction = CLIP_RATE,
    stride: Fraction | None = None,
    margin: Fraction = Fraction(0),
) -> list[Fraction]:
    """Start times (s) of all clips a scene holds.

    The first starts ``margin`` seconds into the scene; each next one ``stride`` later (by default
    one clip's duration: no overlap); the last grid point plus one interval stays ``margin`` before
    the scene's end: g_80 + 1/16 <= end - margin.
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
