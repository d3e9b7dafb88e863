"""Detection of wipes, slides and irises: transitions that pass over the frame part by part.

In a dissolve all of the frame changes a little with each frame; in a cut, all of it at once. In a
wipe, each block of the frame changes once and quickly, and different blocks at different times;
afterwards most blocks show something else. A moving object changes few blocks for good, and a
camera that moves steadily changes each block as much before and after as in between. A slide moves
one shot or both: its frames are then put together from parts of the first and the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.frame_distances import (
    MAX_TRANSITION_FRAMES,
    FrameDistances,
    Transition,
)
from mimix_core.stages.scenes.frame_downscale import THUMBNAIL_SIZE, ByteArray

_BLOCK_SIZE = (4, 3)
"""Width and height of a block, in pixels of the thumbnail's luma."""

_LAG = 3
"""Frames between the two that are compared: an edge takes some frames to cross a block."""

_WIDTHS = (6, 9, 12, 16, 20, 26, 34, 44, 56, 70)
"""Lengths of the windows, frames."""

_MIN_BLOCK_CHANGE = 8
"""Mean difference (levels of 255) of a block that counts as a change."""

_MIN_JUMP = 2.5
"""A block jumps when it changes this many times as much as it does in general."""

_GENERAL_REACH, _GENERAL_STEP = 40, 4
"""How much a block changes in general is the median over so many frames before and after, and is
computed for every fourth frame."""

_MIN_CHANGED_BLOCKS = 0.55
"""Share of the blocks that show something else after a wipe."""

_MIN_EXPLAINED = 0.85
"""Share of these that must have jumped within the window."""

_MIN_DECORRELATION = 0.35
"""Minimum difference of the two shots; see ``FrameDistances.decorrelation``."""

_MAX_TURN_MISFIT = 0.22
"""Limit of a block's difference from the first shot before it turns into the second one, and from
the second afterwards, as a share of their difference; median of the blocks."""

_MIN_SPREAD = 0.07
"""Minimum standard deviation of the times at which blocks turn, as a share of the transition."""

_SLIDE_MOMENTS = (0.35, 0.5, 0.65)
"""When frames are tested for a slide, as shares of the transition's time."""

_MAX_SLIDE_MISFIT = 0.3
"""Limit of the same difference for the two parts of a frame in a slide."""

_MAX_PLAIN_CONTRAST = 0.05
"""Contrast of a plain frame, as a share of that of the shots: an iris may close and open again."""

_MARGIN, _MARGIN_PART = 3, 8
"""Frames added on both sides, absolute and as a part of the length: the first and the last blocks
may have the same color in both shots."""

_CHUNK = 2048
"""Frames compared at once."""

_Marks = NDArray[np.bool_]
_Changes = NDArray[np.uint16]


def detect_wipes(distances: FrameDistances, cuts: Sequence[int]) -> list[Transition]:
    """Detect wipes, in order. ``cuts``: the cuts known already, which are no part of any wipe."""
    changes = _block_changes(distances.thumbnails, _LAG)
    if len(changes) < 2:
        return []
    jumps = _find_jumps(changes, cuts)
    windows = np.concatenate(
        [np.zeros((0, 2), np.int64), *(_fit_windows(distances, jumps, w, cuts) for w in _WIDTHS)]
    )
    transitions = []
    while len(windows):
        start, width = windows[np.lexsort((windows[:, 0], windows[:, 1]))[0]]
        same = windows[(windows[:, 1] == width) & (np.abs(windows[:, 0] - start) <= width)]
        transition = _find_extent(jumps, int(same[:, 0].min()), int(same[:, 0].max() + width))
        inside = _between_cuts(transition, int(start), cuts)
        # A wipe leads from shot to shot; what begins or ends at a cut is motion next to it.
        if inside == transition and _passes_over_frame(distances, inside):
            transitions.append(inside)
        apart = (windows[:, 0] >= transition.end) | (windows.sum(1) <= transition.start)
        windows = windows[apart]
    return sorted(transitions, key=lambda transition: transition.start)


def _between_cuts(transition: Transition, frame: int, cuts: Sequence[int]) -> Transition:
    """Return the part of a transition without cuts that contains ``frame``."""
    start = max([transition.start, *(cut for cut in cuts if cut <= frame)])
    end = min([transition.end, *(cut for cut in cuts if cut > frame)])
    return Transition(start, end)


def _block_changes(thumbnails: ByteArray, lag: int) -> _Changes:
    """Return for each frame the summed differences of each block to ``lag`` frames later."""
    chunks = [np.zeros((0, _block_count()), np.uint16)]
    for start in range(0, len(thumbnails) - lag, _CHUNK):
        stop = min(start + _CHUNK, len(thumbnails) - lag)
        chunks.append(
            _block_differences(thumbnails[start:stop], thumbnails[start + lag : stop + lag])
        )
    return np.concatenate(chunks)


def _block_count() -> int:
    return THUMBNAIL_SIZE[0] // _BLOCK_SIZE[0] * (THUMBNAIL_SIZE[1] // _BLOCK_SIZE[1])


def _block_differences(one: ByteArray, other: ByteArray) -> _Changes:
    """Return the summed absolute differences of each block's luma: [frames, blocks]."""
    (width, height), (wide, high) = THUMBNAIL_SIZE, _BLOCK_SIZE
    first, second = one[:, : width * height], other[:, : width * height]
    difference = np.maximum(first, second) - np.minimum(first, second)
    columns = difference.reshape(-1, width // wide, wide).sum(2, dtype=np.uint16)
    blocks = columns.reshape(len(one), height // high, high, width // wide)
    result: _Changes = blocks.sum(2, dtype=np.uint16).reshape(len(one), -1)
    return result


def _find_jumps(changes: _Changes, cuts: Sequence[int]) -> _Marks:
    """Return for each frame which blocks change far more than in general: [frames, blocks]."""
    sparse = changes[::_GENERAL_STEP]
    reach = min(_GENERAL_REACH // _GENERAL_STEP, len(sparse) - 1)
    padded = np.pad(sparse, [(reach, reach), (0, 0)], "reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    general = np.partition(around, reach, axis=2)[..., reach]
    general = np.repeat(general, _GENERAL_STEP, axis=0)[: len(changes)]
    floor = _MIN_BLOCK_CHANGE * _BLOCK_SIZE[0] * _BLOCK_SIZE[1]
    jumps: _Marks = changes > np.maximum(_MIN_JUMP * general, floor)
    for cut in cuts:
        jumps[max(0, cut - _LAG) : cut] = False
    return jumps


def _fit_windows(
    distances: FrameDistances, jumps: _Marks, width: int, cuts: Sequence[int]
) -> NDArray[np.int64]:
    """Return [windows, 2], start and width, of the windows that contain a wipe and no cut."""
    span = width + _LAG
    frames = len(distances)
    if frames <= span or span > MAX_TRANSITION_FRAMES:
        return np.zeros((0, 2), np.int64)
    total = np.zeros((len(jumps) + 1, jumps.shape[1]), np.int32)
    np.cumsum(jumps, axis=0, out=total[1:])
    jumped = total[width : frames - _LAG] != total[: frames - _LAG - width]
    start = np.flatnonzero(jumped.mean(1) >= _MIN_CHANGED_BLOCKS * _MIN_EXPLAINED)
    ordered = np.sort(np.asarray(cuts, np.int64))
    start = start[
        np.searchsorted(ordered, start, "right") == np.searchsorted(ordered, start + span, "right")
    ]
    start = start[distances.decorrelation(start, span) >= _MIN_DECORRELATION]
    if not len(start):
        return np.zeros((0, 2), np.int64)
    differences = _block_differences(
        distances.thumbnails[start], distances.thumbnails[start + span]
    )
    changed = differences > _MIN_BLOCK_CHANGE * _BLOCK_SIZE[0] * _BLOCK_SIZE[1]
    explained = (jumped[start] & changed).sum(1)
    fits = (changed.mean(1) >= _MIN_CHANGED_BLOCKS) & (explained >= _MIN_EXPLAINED * changed.sum(1))
    start = start[fits]
    return np.stack([start, np.full(len(start), width)], 1)


def _find_extent(jumps: _Marks, first: int, last: int) -> Transition:
    """Extend the frames [first, last) while blocks jump, at most by their number on either side."""
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
    margin = _MARGIN + (end - start) // _MARGIN_PART
    return Transition(max(0, start + 1 - margin), min(len(jumps) + _LAG, end + _LAG - 1 + margin))


def _passes_over_frame(distances: FrameDistances, transition: Transition) -> bool:
    """Return whether blocks turn from one shot into the other, each at a time, or one slides in.

    Motion within a shot makes blocks jump too, but on their way they show neither.
    """
    first, last = max(0, transition.start - 1), min(len(distances) - 1, transition.end)
    images = distances.thumbnails[first : last + 1]
    from_first = _block_differences(images, np.broadcast_to(images[0], images.shape)).astype(float)
    to_last = _block_differences(images, np.broadcast_to(images[-1], images.shape)).astype(float)
    changed = from_first[-1] > _MIN_BLOCK_CHANGE * _BLOCK_SIZE[0] * _BLOCK_SIZE[1]
    if changed.mean() < _MIN_CHANGED_BLOCKS:
        return False
    start = np.zeros((1, from_first.shape[1]))
    misfit = np.concatenate([start, np.cumsum(from_first, axis=0)])
    misfit += np.concatenate([np.cumsum(to_last[::-1], axis=0)[::-1], start])
    turns = misfit.argmin(0)[changed]
    share = (misfit.min(0) / np.maximum(from_first[-1], 1))[changed] / len(images)
    spread = turns.std() / len(images)
    if np.median(share) <= _MAX_TURN_MISFIT and spread >= _MIN_SPREAD:
        return True
    contrast = distances.variances[first : last + 1]
    if contrast.min() <= _MAX_PLAIN_CONTRAST * min(contrast[0], contrast[-1]):
        return True
    return _slides(images)


def _slides(images: ByteArray) -> bool:
    """Return whether one shot pushes the other out of the frame, covers it, or uncovers it."""
    width, height = THUMBNAIL_SIZE
    luma = images[:, : width * height].reshape(-1, height, width).astype(np.int64)
    return any(
        _slides_left(view)
        for view in (
            luma,
            luma[:, :, ::-1],
            luma.transpose(0, 2, 1),
            luma.transpose(0, 2, 1)[:, :, ::-1],
        )
    )


def _slides_left(luma: NDArray[np.int64]) -> bool:
    """Return whether frames are the rest of the first shot, left of the start of the second one.

    The left part is moved or not, and so is the right one. ``luma`` [frames, height, width].
    """
    first, last, size = luma[0], luma[-1], luma.shape[2]
    scale = np.abs(first - last).mean()
    at = sorted({round((len(luma) - 1) * share) for share in _SLIDE_MOMENTS})
    for moves_first, moves_last in ((True, True), (False, True), (True, False)):
        shown, misfits = [], []
        for image in luma[at]:
            errors = []
            for part in range(2, size - 1):
                rest = size - part
                old = first[:, part:] if moves_first else first[:, :rest]
                new = last[:, :part] if moves_last else last[:, rest:]
                error = np.abs(image[:, :rest] - old).sum() + np.abs(image[:, rest:] - new).sum()
                errors.append(error / (luma.shape[1] * size))
            shown.append(int(np.argmin(errors)))
            misfits.append(min(errors) / max(scale, 1))
        grows = all(one < other for one, other in pairwise(shown))
        if grows and np.median(misfits) <= _MAX_SLIDE_MISFIT:
            return True
    return False
