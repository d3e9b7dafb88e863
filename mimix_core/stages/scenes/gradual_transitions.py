"""Transitions found on thumbnails: dissolves, fades, and cuts that are faint but complete.

A dissolve draws each picture between two shots as a weighted mean of both. So for a window of
2n + 1 frames around its middle c, two things hold at once that motion does not bring together:

- the ends have little to do with each other: their covariance is at most half their variance;
- the middle is the mean of the ends, but for what moves:
  |f(c) - (f(c-n) + f(c+n)) / 2| is small against |f(c+n) - f(c-n)|.

A pan long enough for the first breaks the second, and one slow enough for the second breaks the
first. A fade is a dissolve with a plain picture. All of it follows from the squared distances of
thumbnails. Where much moves, the second no longer holds: ``dips`` sees those by their contrast.

The linear model of a dissolve is that of A. Hampapur, R. Jain, T. Weymouth, "Production model
based digital video segmentation", 1995; that frames of a dissolve lie on a line is used by many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.contrast_dissolves import find_dips
from mimix_core.stages.scenes.frame_distances import LAG, VALUES, Blend, Floats, Tape

_HALVES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 36, 40)
"""Half widths of the windows, frames."""

_UNRELATED = 0.5
"""Ends whose difference has at least this share of their summed variances are two shots."""

_DIP = 0.5
"""A mean of unrelated pictures has less contrast than they have; at least this share of the loss
must be there. The contrast of a moving picture stays, however well the rest fits."""

_STEP = 0.65
"""A larger share of the way in one step is a cut and no transition."""

_VISIBLE = 9.0
"""Mean squared difference (levels^2 a value) below which two pictures are the same anyway."""

_PLATEAU = 6
"""Frames of a shot that are compared to see whether it is still being blended."""

_PACE = 0.25
"""A transition goes on while they go the way at this share of its mean pace, at least."""

_DRIFT = 0.03
"""Share of the way that they may go by chance, since what they show moves."""

_REACH = 3
"""A transition is not longer on either side than so many times its inner part."""

_MARGIN = 4
"""Frames added on both sides: the first and last of a transition are hardly blended."""

_MIXED = 0.1
"""Share of the other shot in a frame beside a cut that is not let pass."""

_CUT_NEIGHBOURS = 2
_CUT_RATIO = 3.0
_CUT_UNRELATED = 0.2
"""A cut: so many times the mean step of the neighbours on each side, and to another picture."""

_ALIKE = 0.1
"""Neighbours that differ by less than this share of their contrast are the same picture."""


def find_cuts(tape: Tape) -> list[int]:
    """Frames that open a shot, judged against the contrast of the pictures and their motion."""
    if len(tape) < 2:
        return []
    frames = np.arange(len(tape) - 1)
    step = np.sqrt(tape.apart(frames, 1))
    padded = np.pad(step, _CUT_NEIGHBOURS, mode="edge")
    around = sum(
        padded[_CUT_NEIGHBOURS + shift : len(step) + _CUT_NEIGHBOURS + shift]
        for shift in range(-_CUT_NEIGHBOURS, _CUT_NEIGHBOURS + 1)
        if shift
    ) / (2 * _CUT_NEIGHBOURS)
    unrelated = tape.unrelated(frames, 1)
    cut = (
        (step >= _CUT_RATIO * around)
        & (unrelated >= _CUT_UNRELATED)
        & (step**2 >= _VISIBLE / 2 * VALUES)
    )
    return [int(frame) + 1 for frame in np.flatnonzero(cut)]


def real_cuts(tape: Tape, cuts: Iterable[int]) -> list[int]:
    """Those of ``cuts`` at which the picture becomes another one.

    A drawing that is held for some frames and then moves a little is a large change after none.
    """
    variances = tape.variances
    return [
        cut
        for cut in cuts
        if tape.between(cut - 1, cut) >= _ALIKE * max(variances[cut - 1] + variances[cut], VALUES)
    ]


def find_blends(tape: Tape, residual: float, misfit: float) -> list[Blend]:
    """Dissolves and fades, in order, apart from each other.

    ``residual``: how far the middle may be from the mean of the ends, as a share of their
    distance. ``misfit``: see ``find_dips``.
    """
    return _merged(_means(tape, residual) + find_dips(tape, misfit))


def _means(tape: Tape, residual: float) -> list[Blend]:
    """Those whose middle is the mean of their ends."""
    best, half = _middles(tape, residual)
    middles = np.flatnonzero(half)
    if not len(middles):
        return []
    groups = np.split(middles, np.flatnonzero(np.diff(middles) > _PLATEAU) + 1)
    found = []
    for group in groups:
        surest = group[np.argmin(best[group])]
        for middle in sorted({int(group[0]), int(surest), int(group[-1])}):
            found.append(_extent(tape, middle, int(half[middle])))
    return found


def _middles(tape: Tape, residual: float) -> tuple[Floats, NDArray[np.int64]]:
    """For each frame how well it fits as the middle of a blend (less is better), and the half
    width of the window that fits best; 0: it is no middle.
    """
    frames = len(tape)
    best, half = np.full(frames, np.inf), np.zeros(frames, np.int64)
    variances = tape.variances
    steps = np.sqrt(tape.apart(np.arange(frames - 1), 1)) if frames > 1 else np.zeros(0)
    for n in _HALVES:
        if frames < 2 * n + 1:
            break
        start = np.arange(frames - 2 * n)
        ends = tape.apart(start, 2 * n)
        off = (tape.apart(start, n) + tape.apart(start + n, n)) / 2 - ends / 4
        share = np.sqrt(np.maximum(off, 0) / np.maximum(ends, 1))
        largest = np.lib.stride_tricks.sliding_window_view(steps, 2 * n).max(1)
        unrelated = tape.unrelated(start, 2 * n)
        around = np.maximum(variances[start] + variances[start + 2 * n], VALUES) / 2
        dip = 1 - variances[start + n] / around
        fits = (
            (share <= residual)
            & (dip >= _DIP * unrelated / 2)
            & (unrelated >= _UNRELATED)
            & (ends >= _VISIBLE * VALUES)
            & (largest <= _STEP * np.sqrt(ends))
        )
        score = np.where(fits, share - np.minimum(unrelated, 1.2) / 4, np.inf)
        better = score < best[start + n]
        best[start[better] + n], half[start[better] + n] = score[better], n
    return best, half


def _extent(tape: Tape, middle: int, half: int) -> Blend:
    """From the frames around ``middle`` outward until the shots on both sides stand pure."""
    spans = [tape.between(middle - n, middle + n) for n in range(1, half + 1)]
    # The inner part that surely is blended: half of the distance, a quarter of its square.
    core = next(n for n, span in enumerate(spans, 1) if span >= max(spans) / 4)
    first, last = middle - core, middle + core
    lowest, highest = first - _REACH * core - _PLATEAU, last + _REACH * core + _PLATEAU
    moved = True
    while moved and last - first + _PLATEAU < LAG:
        moved = False
        length = last - first
        reach = min(_PLATEAU, length)
        pace = max(_DRIFT, _PACE * reach / length)
        before, after = first - reach, last + reach
        if before >= 0 and first > lowest and tape.way(before, first, last) > pace:
            first, moved = first - 1, True
        if after < len(tape) and last < highest and 1 - tape.way(first, last, after) > pace:
            last, moved = last + 1, True
    return Blend(max(0, first - _MARGIN + 1), min(len(tape), last + _MARGIN))


def _merged(found: Iterable[Blend]) -> list[Blend]:
    """Overlapping stretches as one."""
    merged: list[Blend] = []
    for blend in sorted(found, key=lambda each: each.start):
        if merged and blend.start <= merged[-1].end:
            last = merged.pop()
            merged.append(Blend(last.start, max(last.end, blend.end)))
        else:
            merged.append(blend)
    return merged


def mixed_at(tape: Tape, cuts: Sequence[int]) -> list[Blend]:
    """The frames beside ``cuts`` that hold some of both shots, as frame rate conversion leaves.

    A frame that alone jumps part of the way to the other shot, and in no other direction.
    """
    found = []
    for cut in cuts:
        for frame, inward, other in ((cut - 1, -1, cut), (cut, 1, cut - 1)):
            own, calm = frame + inward, frame + 2 * inward
            if min(own, calm) < 0 or max(own, calm) >= len(tape):
                continue
            way = tape.way(own, frame, other)
            jump = tape.between(own, frame)
            aside = jump - way**2 * tape.between(own, other)
            if way > _MIXED and aside <= jump / 4 and jump >= 9 * tape.between(calm, own):
                found.append(Blend(frame, frame + 1))
    return found
