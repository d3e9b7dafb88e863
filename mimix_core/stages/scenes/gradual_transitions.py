"""Detection of dissolves, fades and low-contrast cuts from the distances of thumbnails.

Each frame of a dissolve is a weighted mean of two shots. Two conditions then hold together for a
window of 2n + 1 frames around its middle c, which motion alone does not satisfy:

- the ends are unrelated: their covariance is at most half their variance;
- the middle is the mean of the ends, except for motion:
  |f(c) - (f(c-n) + f(c+n)) / 2| is small compared to |f(c+n) - f(c-n)|.

A pan long enough for the first violates the second, and one slow enough for the second violates
the first. A fade is a dissolve with a plain frame. Everything is computed from squared distances
of thumbnails. With strong motion the second condition fails; ``contrast_dissolves`` covers this.

The linear model of a dissolve is that of A. Hampapur, R. Jain, T. Weymouth, "Production model
based digital video segmentation", 1995; the frames of a dissolve lying on a line is widely used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.contrast_dissolves import detect_contrast_dissolves
from mimix_core.stages.scenes.frame_distances import (
    MAX_TRANSITION_FRAMES,
    PART_VALUES,
    THUMBNAIL_VALUES,
    Floats,
    FrameDistances,
    Transition,
)

_HALF_WIDTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 36, 40)
"""Half widths of the windows, frames."""

_MIN_DECORRELATION = 0.5
"""Minimum difference of two shots, as a share of the sum of their variances."""

_MIN_CONTRAST_LOSS = 0.5
"""Minimum share of the contrast loss expected for a mean of unrelated frames. Motion alone does not
reduce contrast, even where the other conditions hold."""

_MAX_STEP_SHARE = 0.65
"""A larger share of the distance in one step is a cut, not a transition."""

_MIN_VISIBLE_DIFFERENCE = 9.0
"""Mean squared difference (levels^2 per value) below which two frames look the same."""

_PLATEAU_FRAMES = 6
"""Number of frames over which a shot is checked for still being blended."""

_MIN_PACE = 0.25
"""The transition continues while these frames progress at this share of its mean pace or more."""

_MOTION_DRIFT = 0.03
"""Share of the distance that they may progress because of motion within the shot."""

_MAX_EXTENSION = 3
"""Maximum extension of a transition on either side, as a multiple of its core."""

_MARGIN = 4
"""Frames added on both sides: a transition's first and last frames are hardly blended."""

_MIN_BLENDED_SHARE = 0.1
"""Minimum share of the other shot for a frame next to a cut to count as blended."""

_CUT_NEIGHBORS = 2
_MIN_CUT_RATIO = 3.0
_MIN_CUT_DECORRELATION = 0.2
"""A cut is a step of this many times the mean neighboring step, to an unrelated frame."""

_MIN_CUT_CHANGE = 0.1
"""Consecutive frames that differ by less than this share of their contrast are not a cut, unless
most parts of the frame change."""

_MIN_PART_CHANGE, _MIN_CHANGED_PARTS = 0.5, 0.65
"""A part changes when its difference is this share of its contrast; and so many parts must."""


def detect_low_contrast_cuts(distances: FrameDistances) -> list[int]:
    """Detect cuts relative to contrast and motion; return the first frame of each new shot."""
    if len(distances) < 2:
        return []
    frames = np.arange(len(distances) - 1)
    step = np.sqrt(distances.lag_distance(frames, 1))
    padded = np.pad(step, _CUT_NEIGHBORS, mode="edge")
    mean_step = sum(
        padded[_CUT_NEIGHBORS + shift : len(step) + _CUT_NEIGHBORS + shift]
        for shift in range(-_CUT_NEIGHBORS, _CUT_NEIGHBORS + 1)
        if shift
    ) / (2 * _CUT_NEIGHBORS)
    decorrelation = distances.decorrelation(frames, 1)
    cut = (
        (step >= _MIN_CUT_RATIO * mean_step)
        & (decorrelation >= _MIN_CUT_DECORRELATION)
        & (step**2 >= _MIN_VISIBLE_DIFFERENCE / 2 * THUMBNAIL_VALUES)
    )
    return [int(frame) + 1 for frame in np.flatnonzero(cut)]


def drop_false_cuts(distances: FrameDistances, cuts: Iterable[int]) -> list[int]:
    """Drop those of ``cuts`` at which the frame hardly changes.

    Detectors mistake animation for a cut when a frame changes a little after a hold. A cut between
    two shots with the same large shapes (a bright sky above dark ground) changes little of the
    frame's contrast too, but it changes what is seen in every part.
    """
    variances = distances.variances
    confirmed = []
    for cut in cuts:
        contrast = max(variances[cut - 1] + variances[cut], THUMBNAIL_VALUES)
        if distances.distance(cut - 1, cut) >= _MIN_CUT_CHANGE * contrast or _changes_in_every_part(
            distances, cut
        ):
            confirmed.append(cut)
    return confirmed


def _changes_in_every_part(distances: FrameDistances, cut: int) -> bool:
    """Return whether most parts of the frame, each around its mean color, show something else."""
    before = np.array([cut - 1])
    change = np.maximum(distances.centered_part_distance(before, 1)[0], 0)
    contrast = distances.part_variances[cut - 1] + distances.part_variances[cut]
    visible = contrast >= _MIN_VISIBLE_DIFFERENCE * PART_VALUES
    changed = (change >= _MIN_PART_CHANGE * contrast) & visible
    return bool(changed.mean() >= _MIN_CHANGED_PARTS)


def detect_transitions(
    distances: FrameDistances, max_residual: float, max_misfit: float
) -> list[Transition]:
    """Detect dissolves and fades, in order and without overlaps.

    ``max_residual``: limit of the distance of the middle from the mean of the ends, as a share of
    the ends' distance. ``max_misfit``: see ``detect_contrast_dissolves``.
    """
    return _merge_overlapping(
        _mean_dissolves(distances, max_residual) + detect_contrast_dissolves(distances, max_misfit)
    )


def _mean_dissolves(distances: FrameDistances, residual: float) -> list[Transition]:
    """Detect transitions whose middle is the mean of their ends."""
    best, half = _score_middles(distances, residual)
    middles = np.flatnonzero(half)
    if not len(middles):
        return []
    groups = np.split(middles, np.flatnonzero(np.diff(middles) > _PLATEAU_FRAMES) + 1)
    transitions = []
    for group in groups:
        best_middle = group[np.argmin(best[group])]
        for middle in sorted({int(group[0]), int(best_middle), int(group[-1])}):
            transitions.append(_find_extent(distances, middle, int(half[middle])))
    return transitions


def _score_middles(distances: FrameDistances, residual: float) -> tuple[Floats, NDArray[np.int64]]:
    """Score each frame as the middle of a transition (lower is better).

    Also returns the half width of the best window; 0: not a middle.
    """
    frames = len(distances)
    best, half = np.full(frames, np.inf), np.zeros(frames, np.int64)
    variances = distances.variances
    steps = np.sqrt(distances.lag_distance(np.arange(frames - 1), 1)) if frames > 1 else np.zeros(0)
    for n in _HALF_WIDTHS:
        if frames < 2 * n + 1:
            break
        start = np.arange(frames - 2 * n)
        ends = distances.lag_distance(start, 2 * n)
        halves = distances.lag_distance(start, n) + distances.lag_distance(start + n, n)
        deviation = halves / 2 - ends / 4
        share = np.sqrt(np.maximum(deviation, 0) / np.maximum(ends, 1))
        largest = np.lib.stride_tricks.sliding_window_view(steps, 2 * n).max(1)
        decorrelation = distances.decorrelation(start, 2 * n)
        mean_contrast = (
            np.maximum(variances[start] + variances[start + 2 * n], THUMBNAIL_VALUES) / 2
        )
        contrast_loss = 1 - variances[start + n] / mean_contrast
        fits = (
            (share <= residual)
            & (contrast_loss >= _MIN_CONTRAST_LOSS * decorrelation / 2)
            & (decorrelation >= _MIN_DECORRELATION)
            & (ends >= _MIN_VISIBLE_DIFFERENCE * THUMBNAIL_VALUES)
            & (largest <= _MAX_STEP_SHARE * np.sqrt(ends))
        )
        score = np.where(fits, share - np.minimum(decorrelation, 1.2) / 4, np.inf)
        better = score < best[start + n]
        best[start[better] + n], half[start[better] + n] = score[better], n
    return best, half


def _find_extent(distances: FrameDistances, middle: int, half: int) -> Transition:
    """Extend a transition from its middle outward until both shots are unblended."""
    spans = [distances.distance(middle - n, middle + n) for n in range(1, half + 1)]
    # The core is certainly blended: half of the distance, a quarter of its square.
    core = next(n for n, distance in enumerate(spans, 1) if distance >= max(spans) / 4)
    first, last = middle - core, middle + core
    max_growth = _MAX_EXTENSION * core + _PLATEAU_FRAMES
    lowest, highest = first - max_growth, last + max_growth
    extended = True
    while extended and last - first + _PLATEAU_FRAMES < MAX_TRANSITION_FRAMES:
        extended = False
        length = last - first
        reach = min(_PLATEAU_FRAMES, length)
        pace = max(_MOTION_DRIFT, _MIN_PACE * reach / length)
        before, after = first - reach, last + reach
        if before >= 0 and first > lowest and distances.progress(before, first, last) > pace:
            first, extended = first - 1, True
        if (
            after < len(distances)
            and last < highest
            and 1 - distances.progress(first, last, after) > pace
        ):
            last, extended = last + 1, True
    return Transition(max(0, first - _MARGIN + 1), min(len(distances), last + _MARGIN))


def _merge_overlapping(transitions: Iterable[Transition]) -> list[Transition]:
    """Merge overlapping or touching transitions."""
    merged: list[Transition] = []
    for transition in sorted(transitions, key=lambda each: each.start):
        if merged and transition.start <= merged[-1].end:
            last = merged.pop()
            merged.append(Transition(last.start, max(last.end, transition.end)))
        else:
            merged.append(transition)
    return merged


def detect_blended_neighbors(distances: FrameDistances, cuts: Sequence[int]) -> list[Transition]:
    """Detect frames next to ``cuts`` that blend both shots, as frame rate conversion leaves them.

    Such a frame is a single jump partway towards the other shot, and in no other direction.
    """
    transitions = []
    for cut in cuts:
        for frame, inward, other in ((cut - 1, -1, cut), (cut, 1, cut - 1)):
            inner, second_inner = frame + inward, frame + 2 * inward
            if min(inner, second_inner) < 0 or max(inner, second_inner) >= len(distances):
                continue
            progress = distances.progress(inner, frame, other)
            jump = distances.distance(inner, frame)
            orthogonal_distance = jump - progress**2 * distances.distance(inner, other)
            is_straight = orthogonal_distance <= jump / 4
            is_jump = jump >= 9 * distances.distance(second_inner, inner)
            if progress > _MIN_BLENDED_SHARE and is_straight and is_jump:
                transitions.append(Transition(frame, frame + 1))
    return transitions
