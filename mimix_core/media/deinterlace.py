"""Frames out of fields, on the clock of the stream.

Interlaced video: one frame out per frame in, its first field's instant made whole by FFmpeg's
``bwdif`` (each plane by its own lines, so that interlaced 4:2:0 colour stays right), PTS unchanged.

Telecined film: ``fieldmatch`` puts the fields of a film frame together again, whatever of it stays
combed is deinterlaced, and of each five frames the one that repeats its predecessor most is left
out. The four others get evenly spaced PTS, rounded to the stream's time base.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.filters import frame_graph, pulled
from mimix_core.media.packet_decoder import Damage
from mimix_core.media.scan_type import Fields

_CYCLE = 5
"""Frames of pulled-down video for every four of film."""

_PARTS = (24, 16)
"""Frames are compared in so many columns and rows: a small thing that moves must count."""

_AS_GOOD = 1.5
"""The place that was left out last is left out again unless another repeats so much better."""

_NOISE = 0.5
"""Differences up to this (mean luma levels of a part, of 255) tell nothing."""

_BWDIF = {
    Fields.TFF: "mode=send_frame:parity=tff:deint=all",
    Fields.BFF: "mode=send_frame:parity=bff:deint=all",
}

# p, c and n matches are all tried: that finds the film frames whichever field came first.
_FILM = [
    ("fieldmatch", "order=tff:field=top:mode=pcn:combmatch=full"),
    ("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
]


def whole_frames(
    frames: Iterator[Any], fields: Fields, coded: Damage, damage: Damage
) -> Iterator[Any]:
    """Deinterlaced frames of a stream of decoded ``av.VideoFrame``; progressive ones as they are.

    ``coded``: which of the incoming frames are damaged. What is made of them goes to ``damage``
    (for progressive video the two are the same).
    """
    if fields == Fields.PROGRESSIVE:
        yield from frames
    elif fields == Fields.TELECINE:
        yield from _film(_filtered(frames, _FILM), coded, damage)
    else:
        yield from _spread(_filtered(frames, [("bwdif", _BWDIF[fields])]), coded, damage)


def _spread(frames: Iterator[Any], coded: Damage, damage: Damage) -> Iterator[Any]:
    """``bwdif`` looks at the frames before and after: their damage is damage."""
    before: int | None = None
    for frame in frames:
        if frame.pts in coded.pts and before is not None:
            damage.pts.add(before)
        if frame.pts in coded.pts or before in coded.pts:
            damage.pts.add(frame.pts)
        # Frames given out already turn out to be damaged when those they refer to come.
        damage.pts |= coded.pts
        before = frame.pts
        yield frame


def _filtered(frames: Iterator[Any], steps: list[tuple[str, str]]) -> Iterator[Any]:
    """Filters that give one frame out per frame in; time as it was before them."""
    first = next(frames, None)
    if first is None:
        return
    clocks: deque[tuple[int, int, Fraction]] = deque()

    def noted(incoming: Iterable[Any]) -> Iterator[Any]:
        for frame in incoming:
            clocks.append((frame.pts, frame.duration, frame.time_base))
            yield frame

    graph = frame_graph(first, [*steps, ("format", first.format.name)])
    for frame in pulled(graph, noted(chain([first], frames))):
        frame.pts, frame.duration, frame.time_base = clocks.popleft()
        yield frame


def _film(frames: Iterator[Any], coded: Damage, damage: Damage) -> Iterator[Any]:
    cycle: list[Any] = []
    differences: list[float] = []
    before: NDArray[Any] | None = None
    place = 0
    given: list[int] = []

    def evened(end: Fraction) -> Iterator[Any]:
        nonlocal given
        harmed = any(frame.pts in coded.pts for frame in cycle)
        film = _evened(cycle, place, end)
        times = [frame.pts for frame in film]
        if harmed:
            # Fields come from neighbours, and damage may be noticed after a frame was given out.
            damage.pts.update(given, times)
        given = times
        return iter(film)

    for frame in frames:
        if len(cycle) == _CYCLE:
            place = _repeat(differences, place)
            yield from evened(Fraction(frame.pts))
            cycle, differences = [], []
        luma = _luma(frame)
        # The very first frame repeats nothing.
        differences.append(np.inf if before is None else _difference(luma, before, frame))
        cycle.append(frame)
        before = luma
    if cycle:
        place = _repeat(differences, place) if len(cycle) == _CYCLE else place
        yield from evened(_end(cycle))


def _repeat(differences: list[float], last: int) -> int:
    """The place of the frame to leave out."""
    best = min(range(_CYCLE), key=lambda place: differences[place])
    limit = max(_AS_GOOD * differences[best], differences[best] + _NOISE)
    return last if differences[last] <= limit else best


def _evened(cycle: list[Any], place: int, end: Fraction) -> list[Any]:
    """A cycle without the frame at ``place``, spread evenly up to ``end`` (PTS)."""
    start = cycle[0].pts
    film = [frame for number, frame in enumerate(cycle) if number != place]
    step = (end - start) / len(cycle) * _CYCLE / (_CYCLE - 1)
    times = [round(start + number * step) for number in range(len(film) + 1)]
    for frame, pts, following in zip(film, times, times[1:], strict=False):
        frame.pts, frame.duration = pts, following - pts
    return film


def _end(cycle: list[Any]) -> Fraction:
    """Where the last cycle ends, in PTS: its frames' own spacing goes on."""
    first, last = cycle[0].pts, cycle[-1].pts
    if len(cycle) == 1:
        return Fraction(last + max(1, cycle[-1].duration or 0))
    return Fraction(first) + Fraction((last - first) * len(cycle), len(cycle) - 1)


def _luma(frame: Any) -> NDArray[Any]:
    """The first plane, [height, width]."""
    plane = frame.planes[0]
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    lines = np.frombuffer(plane, kind).reshape(plane.height, -1)
    return lines[:, : plane.width].copy()


def _difference(luma: NDArray[Any], before: NDArray[Any], frame: Any) -> float:
    """Of the part that differs most: mean levels, of 255."""
    parts = cv2.resize(
        cv2.absdiff(luma, before).astype(np.float32), _PARTS, interpolation=cv2.INTER_AREA
    )
    white: int = (1 << frame.format.components[0].bits) - 1
    return float(parts.max()) * 255 / white
