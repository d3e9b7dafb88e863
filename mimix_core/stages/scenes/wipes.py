"""Detection of wipes, slides and irises: transitions that pass over the frame part by part.

In a dissolve all of the frame changes a little with each frame; in a cut, all of it at once. In a
wipe, each block of the frame changes once and quickly, and different blocks at different times;
afterwards most blocks show something else. A moving object changes few blocks for good, and a
camera that moves steadily changes each block as much before and after as in between. In a slide
blocks change for as long as it takes, and hardly before and after.

Windows of frames in which that holds are candidates, which ``wipe_evidence`` examines. Boundaries
that other detectors find within a wipe are extended to its ends by ``unsure_boundaries``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.frame_distances import (
    MAX_TRANSITION_FRAMES,
    FrameDistances,
    Transition,
)
from mimix_core.stages.scenes.unsure_boundaries import extend_boundaries
from mimix_core.stages.scenes.wipe_evidence import (
    BLOCK_PIXELS,
    LAG,
    MIN_BLOCK_CHANGE,
    BlockChanges,
    is_wipe,
    measure_block_changes,
    plain_block_differences,
)

_WIDTHS = (6, 9, 12, 16, 20, 26, 34, 44, 56, 70)
"""Lengths of the windows, frames."""

_MIN_JUMP, _MIN_JUMP_CHANGE = 2.5, 4
"""A block jumps when it changes this many times as much as it does in general, and so many levels
(of 255); see ``measure_block_changes``."""

_GENERAL_REACH, _GENERAL_STEP = 40, 4
"""How much a block changes in general is the median over so many frames before and after, and is
computed for every fourth frame."""

_MIN_CHANGED_BLOCKS = 0.55
"""Share of the blocks that show something else after a wipe."""

_MIN_EXPLAINED = 0.8
"""Share of these that must have jumped within the window."""

_MIN_DECORRELATION = 0.35
"""Minimum difference of the two shots; see ``FrameDistances.decorrelation``."""

_MIN_RUN = 4
"""So many cuts, each at most a frame apart from the next, are no cuts but motion."""

_MARGIN, _MARGIN_PART = 3, 8
"""Frames added on both sides, absolute and as a part of the length: the first and the last blocks
may have the same color in both shots."""

_PAUSE_PART = 6
"""Within a wipe, no block jumps for at most so large a part of its length: where both shots look
alike, an edge leaves no trace."""

_Marks = NDArray[np.bool_]


def detect_wipes(
    distances: FrameDistances, cuts: Sequence[int], transitions: Sequence[Transition]
) -> list[Transition]:
    """Detect wipes, and frames around ``cuts`` and ``transitions`` that are parts of one; in order.

    ``cuts`` and ``transitions``: those found already. They may be parts of a wipe.
    """
    changes = measure_block_changes(distances.thumbnails)
    if len(changes) < 2:
        return []
    jumps = _find_jumps(changes)
    wipes = _find_wipes(distances, changes, jumps, _keep_single_cuts(cuts))
    extensions = extend_boundaries(jumps, cuts, [*transitions, *wipes])
    return sorted(wipes + extensions, key=lambda transition: transition.start)


def _find_wipes(
    distances: FrameDistances, changes: BlockChanges, jumps: _Marks, cuts: Sequence[int]
) -> list[Transition]:
    """Find wipes; none contains one of ``cuts``."""
    jumps = jumps.copy()
    for cut in cuts:
        jumps[max(0, cut - LAG) : cut] = False
    windows = np.concatenate(
        [np.zeros((0, 2), np.int64), *(_fit_windows(distances, jumps, w, cuts) for w in _WIDTHS)]
    )
    transitions = []
    examined: set[tuple[int, int]] = set()
    while len(windows):
        start, width = windows[np.lexsort((windows[:, 0], windows[:, 1]))[0]]
        same = (windows[:, 1] == width) & (np.abs(windows[:, 0] - start) <= width)
        starts = windows[same, 0]
        first, last = _find_extent(jumps, int(starts.min()), int(starts.max() + width))
        before, after = _cuts_around(int(start), cuts, len(distances))
        # A wipe leads from shot to shot; what begins or ends at a cut is motion next to it.
        ends = (first, last)
        inside = ends not in examined and before <= first and last < after
        examined.add(ends)
        if inside and is_wipe(distances, changes, ends, (before, after)):
            first, last = _extend_over_pauses(jumps, first, last)
            margin = _MARGIN + (last - first) // _MARGIN_PART
            transition = Transition(max(before, first + 1 - margin), min(after, last + margin))
            transitions.append(transition)
            # Its windows of other widths.
            same = (windows[:, 0] < transition.end) & (windows.sum(1) > transition.start)
        windows = windows[~same]
    return transitions


def _keep_single_cuts(cuts: Sequence[int]) -> list[int]:
    """Return ``cuts`` without runs of them, which detectors find in fast slides."""
    ordered = np.array(sorted(set(cuts)), np.int64)
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > 2) + 1)
    return [int(cut) for run in runs if len(run) < _MIN_RUN for cut in run]


def _cuts_around(frame: int, cuts: Sequence[int], frames: int) -> tuple[int, int]:
    """Return the frames [before, after) around ``frame`` that contain no cut."""
    before = max([0, *(cut for cut in cuts if cut <= frame)])
    after = min([frames, *(cut for cut in cuts if cut > frame)])
    return before, after


def _find_jumps(changes: BlockChanges) -> _Marks:
    """Return for each frame which blocks change far more than in general: [frames, blocks]."""
    sparse = changes[::_GENERAL_STEP]
    reach = min(_GENERAL_REACH // _GENERAL_STEP, len(sparse) - 1)
    padded = np.pad(sparse, [(reach, reach), (0, 0)], "reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    general = np.partition(around, reach, axis=2)[..., reach]
    general = np.repeat(general, _GENERAL_STEP, axis=0)[: len(changes)]
    jumps: _Marks = changes > np.maximum(_MIN_JUMP * general, _MIN_JUMP_CHANGE * BLOCK_PIXELS)
    return jumps


def _fit_windows(
    distances: FrameDistances, jumps: _Marks, width: int, cuts: Sequence[int]
) -> NDArray[np.int64]:
    """Return [windows, 2], start and width, of the windows that may contain a wipe, and no cut."""
    span = width + LAG
    frames = len(distances)
    if frames <= span or span > MAX_TRANSITION_FRAMES:
        return np.zeros((0, 2), np.int64)
    total = np.zeros((len(jumps) + 1, jumps.shape[1]), np.int32)
    np.cumsum(jumps, axis=0, out=total[1:])
    jumped = total[width : frames - LAG] != total[: frames - LAG - width]
    start = np.flatnonzero(jumped.mean(1) >= _MIN_CHANGED_BLOCKS * _MIN_EXPLAINED)
    ordered = np.asarray(cuts, np.int64)
    start = start[
        np.searchsorted(ordered, start, "right") == np.searchsorted(ordered, start + span, "right")
    ]
    start = start[distances.decorrelation(start, span) >= _MIN_DECORRELATION]
    if not len(start):
        return np.zeros((0, 2), np.int64)
    thumbnails = distances.thumbnails
    differences = plain_block_differences(thumbnails[start], thumbnails[start + span])
    changed = differences > MIN_BLOCK_CHANGE * BLOCK_PIXELS
    explained = (jumped[start] & changed).sum(1)
    fits = (changed.mean(1) >= _MIN_CHANGED_BLOCKS) & (explained >= _MIN_EXPLAINED * changed.sum(1))
    start = start[fits]
    return np.stack([start, np.full(len(start), width)], 1)


def _find_extent(jumps: _Marks, first: int, last: int) -> tuple[int, int]:
    """Return the frames before and after the jumps in [first, last) and around them.

    They are extended while blocks jump, on either side at most by their number.
    """
    reach = last - first + _MARGIN
    active = jumps.sum(1) >= 2
    start, end = first, min(last, len(jumps))
    while start > max(0, first - reach) and active[start - 1]:
        start -= 1
    while end < min(len(jumps), last + reach) and active[end]:
        end += 1
    while start < end - 1 and not active[start]:
        start += 1
    while end > start + 1 and not active[end - 1]:
        end -= 1
    # The jump of frame k is seen in frames k + 1 to k + lag.
    return start, end - 1 + LAG


def _extend_over_pauses(jumps: _Marks, first: int, last: int) -> tuple[int, int]:
    """Extend a wipe from frame ``first`` to frame ``last`` by what jumps after a pause.

    At most by a pause's length at either end, since the shots' own motion makes blocks jump too.
    """
    pause = max(_MARGIN, (last - first) // _PAUSE_PART)
    active = jumps.sum(1) >= 1
    earlier = np.flatnonzero(active[max(0, first - pause) : first])
    later = np.flatnonzero(active[last - LAG + 1 : last - LAG + 1 + pause])
    if len(earlier):
        first = max(0, first - pause) + int(earlier[0])
    if len(later):
        last += 1 + int(later[-1])
    return first, last
