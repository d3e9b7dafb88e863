"""Deinterlacing and inverse telecine, on the stream's clock.

Interlaced video: FFmpeg's ``bwdif`` turns each input frame into one output frame at the instant of
its first field, with unchanged PTS. Each plane is interpolated from its own lines, which keeps
interlaced 4:2:0 color correct.

Telecined film: ``fieldmatch`` recombines the fields of each film frame, frames that are still
combed are deinterlaced, and of every five frames the one most similar to its predecessor is
dropped. The other four get evenly spaced PTS, rounded to the stream's time base.
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

from mimix_core.media.filters import build_filter_graph, filter_frames
from mimix_core.media.packet_decoder import DamagedFrames
from mimix_core.media.scan_type import ScanType

_PULLDOWN_CYCLE = 5
"""Video frames after pulldown for every four film frames."""

_COMPARISON_GRID = (24, 16)
"""Columns and rows in which frames are compared: small moving objects must count."""

_MAX_DIFFERENCE_RATIO = 1.5
"""The position dropped in the last cycle is dropped again unless another frame differs from its
predecessor less by more than this factor."""

_NOISE_LEVEL = 0.5
"""Differences up to this (mean luma levels of a grid cell, of 255) are not significant."""

_BWDIF_OPTIONS = {
    ScanType.TFF: "mode=send_frame:parity=tff:deint=all",
    ScanType.BFF: "mode=send_frame:parity=bff:deint=all",
}

# All of the matches p, c and n are tried: this finds the film frames for either field order.
_TELECINE_FILTERS = [
    ("fieldmatch", "order=tff:field=top:mode=pcn:combmatch=full"),
    ("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
]


def deinterlace_frames(
    frames: Iterator[Any], scan_type: ScanType, input_damage: DamagedFrames, damage: DamagedFrames
) -> Iterator[Any]:
    """Deinterlace a stream of decoded ``av.VideoFrame``; progressive frames pass unchanged.

    ``input_damage``: the damaged input frames. Output frames that depend on them are added to
    ``damage`` (for progressive video the two are the same object).
    """
    if scan_type == ScanType.PROGRESSIVE:
        yield from frames
    elif scan_type == ScanType.TELECINE:
        yield from _inverse_telecine(
            _apply_filters(frames, _TELECINE_FILTERS), input_damage, damage
        )
    else:
        yield from _deinterlace_interlaced(
            _apply_filters(frames, [("bwdif", _BWDIF_OPTIONS[scan_type])]), input_damage, damage
        )


def _deinterlace_interlaced(
    frames: Iterator[Any], input_damage: DamagedFrames, damage: DamagedFrames
) -> Iterator[Any]:
    """Yield ``frames``; ``bwdif`` uses both neighbors of a frame, and so spreads their damage."""
    previous: int | None = None
    for frame in frames:
        if frame.pts in input_damage.pts and previous is not None:
            damage.pts.add(previous)
        if frame.pts in input_damage.pts or previous in input_damage.pts:
            damage.pts.add(frame.pts)
        # Damage of frames that were already yielded may be detected only with later frames.
        damage.pts |= input_damage.pts
        previous = frame.pts
        yield frame


def _apply_filters(frames: Iterator[Any], steps: list[tuple[str, str]]) -> Iterator[Any]:
    """Apply filters that output one frame per input frame, and restore the input timestamps."""
    first = next(frames, None)
    if first is None:
        return
    times: deque[tuple[int, int, Fraction]] = deque()

    def record_times(incoming: Iterable[Any]) -> Iterator[Any]:
        for frame in incoming:
            times.append((frame.pts, frame.duration, frame.time_base))
            yield frame

    graph = build_filter_graph(first, [*steps, ("format", first.format.name)])
    for frame in filter_frames(graph, record_times(chain([first], frames))):
        frame.pts, frame.duration, frame.time_base = times.popleft()
        yield frame


def _inverse_telecine(
    frames: Iterator[Any], input_damage: DamagedFrames, damage: DamagedFrames
) -> Iterator[Any]:
    cycle: list[Any] = []
    differences: list[float] = []
    previous: NDArray[Any] | None = None
    dropped = 0
    emitted_pts: list[int] = []

    def emit_cycle(end: Fraction) -> Iterator[Any]:
        nonlocal emitted_pts
        damaged = any(frame.pts in input_damage.pts for frame in cycle)
        film = _retime_cycle(cycle, dropped, end)
        times = [frame.pts for frame in film]
        if damaged:
            # Fields come from neighboring frames, and damage may be detected after the yield.
            damage.pts.update(emitted_pts, times)
        emitted_pts = times
        return iter(film)

    for frame in frames:
        if len(cycle) == _PULLDOWN_CYCLE:
            dropped = _find_repeated_frame(differences, dropped)
            yield from emit_cycle(Fraction(frame.pts))
            cycle, differences = [], []
        luma = _luma(frame)
        # The very first frame has no predecessor.
        differences.append(
            np.inf if previous is None else _max_grid_difference(luma, previous, frame)
        )
        cycle.append(frame)
        previous = luma
    if cycle:
        dropped = (
            _find_repeated_frame(differences, dropped) if len(cycle) == _PULLDOWN_CYCLE else dropped
        )
        yield from emit_cycle(_cycle_end(cycle))


def _find_repeated_frame(differences: list[float], last: int) -> int:
    """Return the position of the frame to drop; ``last``: the one dropped in the last cycle."""
    best = min(range(_PULLDOWN_CYCLE), key=lambda position: differences[position])
    limit = max(_MAX_DIFFERENCE_RATIO * differences[best], differences[best] + _NOISE_LEVEL)
    return last if differences[last] <= limit else best


def _retime_cycle(cycle: list[Any], dropped: int, end: Fraction) -> list[Any]:
    """Drop one frame of a cycle and space the others evenly up to ``end`` (PTS)."""
    start = cycle[0].pts
    film = [frame for index, frame in enumerate(cycle) if index != dropped]
    step = (end - start) / len(cycle) * _PULLDOWN_CYCLE / (_PULLDOWN_CYCLE - 1)
    times = [round(start + index * step) for index in range(len(film) + 1)]
    for frame, pts, following in zip(film, times, times[1:], strict=False):
        frame.pts, frame.duration = pts, following - pts
    return film


def _cycle_end(cycle: list[Any]) -> Fraction:
    """Extrapolate the end of the last cycle, in PTS, from the spacing of its frames."""
    first, last = cycle[0].pts, cycle[-1].pts
    if len(cycle) == 1:
        return Fraction(last + max(1, cycle[-1].duration or 0))
    return Fraction(first) + Fraction((last - first) * len(cycle), len(cycle) - 1)


def _luma(frame: Any) -> NDArray[Any]:
    """Copy the luma plane, [height, width]."""
    plane = frame.planes[0]
    dtype = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    lines = np.frombuffer(plane, dtype).reshape(plane.height, -1)
    return lines[:, : plane.width].copy()


def _max_grid_difference(luma: NDArray[Any], previous: NDArray[Any], frame: Any) -> float:
    """Return the mean difference in the grid cell that differs most, levels of 255."""
    cells = cv2.resize(
        cv2.absdiff(luma, previous).astype(np.float32),
        _COMPARISON_GRID,
        interpolation=cv2.INTER_AREA,
    )
    white: int = (1 << frame.format.components[0].bits) - 1
    return float(cells.max()) * 255 / white
