"""Frames next to a cut or a transition that still mix two shots, which it was found too short for.

The other detectors find a part of many wipes: a fast slide as some cuts, the middle of an iris as a
fade. What they find is then extended for as long as blocks of the frame jump (see ``wipes``). Among
cuts close together, jumps of an eighth of the frame count; next to other boundaries, only jumps of
two fifths of it, since a shot may begin with motion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.frame_distances import Transition
from mimix_core.stages.scenes.wipe_evidence import LAG

_MAX_RUN_DISTANCE, _MIN_RUN = 12, 3
"""So many cuts, each within so many frames of another, may be one fast transition."""

_MIN_BLOCKS, _MIN_BLOCKS_ELSEWHERE = 6, 20
"""Least number of blocks that jump: among cuts close together, and next to other boundaries."""

_MAX_REACH = 40
"""Frames by which a boundary is extended at most, on either side."""

_MAX_GAP = 1
"""Frames without jumps, which an edge leaves where both shots look alike."""

_MARGIN = 3
"""Frames added to each extension."""

_Marks = NDArray[np.bool_]


def extend_boundaries(
    jumps: _Marks, cuts: Sequence[int], transitions: Sequence[Transition]
) -> list[Transition]:
    """Return the frames next to ``cuts`` and ``transitions`` that are still part of a transition.

    ``jumps`` [frames, blocks]: whether a block jumps from a frame to that ``LAG`` frames later.
    """
    count = jumps.sum(1)
    at_cuts = np.zeros(len(count), bool)
    for cut in cuts:
        at_cuts[max(0, cut - LAG) : cut] = True
    extensions = []
    for found, least in [
        *((found, _MIN_BLOCKS_ELSEWHERE) for found in transitions),
        *_rate_cuts(cuts),
    ]:
        active = (count >= least) & ~at_cuts
        for extension in _extend(active | at_cuts, found):
            jumped = active[max(0, extension.start - LAG) : extension.end]
            if jumped.any():
                extensions.append(extension)
    return extensions


def _rate_cuts(cuts: Sequence[int]) -> Iterator[tuple[Transition, int]]:
    """Yield each cut, and how many blocks must jump next to it."""
    ordered = np.array(sorted(set(cuts)), np.int64)
    for cut in ordered:
        run = (np.abs(ordered - cut) <= _MAX_RUN_DISTANCE).sum() >= _MIN_RUN
        least = _MIN_BLOCKS if run else _MIN_BLOCKS_ELSEWHERE
        yield Transition(int(cut), int(cut)), least


def _extend(active: _Marks, found: Transition) -> Iterator[Transition]:
    """Yield the frames before and after ``found`` that are connected with it by activity.

    The jump of frame k is one between it and frame k + lag: both of these are of one shot.
    """
    first = _walk(active, min(found.start - 1 - LAG, len(active) - 1), -1)
    if first is not None and first + 1 < found.start:
        yield Transition(max(0, first + 1 - _MARGIN), found.start)
    last = _walk(active, found.end, 1)
    if last is not None and last + LAG > found.end:
        yield Transition(found.end, min(len(active) + LAG, last + LAG + _MARGIN))


def _walk(active: _Marks, start: int, step: int) -> int | None:
    """Return the last active frame that is reached from ``start``, if any."""
    last, gap = None, 0
    stop = max(-1, min(len(active), start + step * _MAX_REACH))
    for frame in range(start, stop, step):
        gap = 0 if active[frame] else gap + 1
        if gap > _MAX_GAP:
            break
        if active[frame]:
            last = frame
    return last
