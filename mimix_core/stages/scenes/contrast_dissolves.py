"""Detection of dissolves from the loss of contrast between two shots, regardless of motion.

Mixing a share a of frame B into an unrelated frame A gives a contrast (variance) of

    V(a) = (1 - a) V(A) + a V(B) - a (1 - a) |A - B|^2

with mean colors removed from |A - B|: below the line from V(A) to V(B) by a parabola. This holds in
every part of the frame, and also while either shot pans, since a pan changes a shot's contrast only
little. A window of frames is a dissolve when its contrast follows that curve over the complete
frame and in most of its parts; only the window's position is fitted. Motion within a shot
changes the contrast of some parts, each at a different time.

The parabola is that of A. Alattar, "Detecting and compressing dissolve regions in video
sequences", 1993.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.frame_distances import (
    PART_VALUES,
    THUMBNAIL_VALUES,
    Floats,
    FrameDistances,
    Transition,
)

_HALF_WIDTHS = (4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 36, 40)
"""Half widths of the windows, frames. Shorter dissolves have little motion, and are detected by
``gradual_transitions``."""

_MAX_FRAME_MISFIT = 0.2
"""Limit of the misfit of the complete frame; see ``_misfit``."""

_FRAME_MISFIT_WEIGHT = 4.0
"""Weight of the complete frame's misfit relative to that of its parts."""

_MIN_DECORRELATION, _MAX_DECORRELATION = 0.35, 1.2
"""Range of the decorrelation of the window's ends: windows below it are ignored. Less related ends
lose more contrast, and chance matches are less likely: the allowed misfit grows accordingly."""

_MAX_STEP_SHARE = 0.65
"""A larger share of the distance in one step is a cut, not a transition."""

_MIN_VISIBLE_DIFFERENCE = 9.0
"""Mean squared difference (levels^2 per value) below which two frames look the same."""

_SCORE_TOLERANCE = 0.2
"""Windows with a score this close to the best one also determine the dissolve's ends."""

_MARGIN, _MARGIN_SHARE = 2, 0.08
"""Frames added on both sides, absolute and as a share of the window: the curve's ends are flat."""


def detect_contrast_dissolves(distances: FrameDistances, max_misfit: float) -> list[Transition]:
    """Detect dissolves from the loss of contrast, best match first; they may overlap.

    ``max_misfit``: limit of the deviation from the curve when the window's ends are unrelated:
    the median misfit of the parts plus four times that of the complete frame; see ``_misfit``.
    """
    windows = np.concatenate(
        [np.zeros((0, 3)), *(_fit_windows(distances, half, max_misfit) for half in _HALF_WIDTHS)]
    )
    transitions = []
    while len(windows):
        middle, half, _ = windows[np.argmin(windows[:, 2])]
        overlapping = np.abs(windows[:, 0] - middle) <= half
        transitions.append(_merge_windows(windows[overlapping], len(distances)))
        windows = windows[~overlapping]
    return transitions


def _fit_windows(distances: FrameDistances, half: int, max_misfit: float) -> Floats:
    """Return [windows, 3]: middle, half width and score (lower is better) of matching windows."""
    width = 2 * half
    if len(distances) <= width:
        return np.zeros((0, 3))
    start = np.arange(len(distances) - width)
    ends = distances.lag_distance(start, width)
    steps = np.sqrt(distances.lag_distance(np.arange(len(distances) - 1), 1))
    largest = np.lib.stride_tricks.sliding_window_view(steps, width).max(1)
    decorrelation = distances.decorrelation(start, width)
    # Cheap tests first: most windows of most films fail them.
    start = start[
        (decorrelation >= _MIN_DECORRELATION)
        & (ends >= _MIN_VISIBLE_DIFFERENCE * THUMBNAIL_VALUES)
        & (largest <= _MAX_STEP_SHARE * np.sqrt(ends))
    ]
    loss = distances.centered_lag_distance(start, width)[:, None]
    frame_misfit = _misfit(distances.variances[:, None], start, loss, half)[:, 0]
    matches = frame_misfit <= _MAX_FRAME_MISFIT
    start, frame_misfit = start[matches], frame_misfit[matches]
    part_loss = np.maximum(distances.centered_part_distance(start, width), PART_VALUES)
    part_misfit = np.median(_misfit(distances.part_variances, start, part_loss, half), axis=1)
    tolerance = np.minimum(distances.decorrelation(start, width), _MAX_DECORRELATION)
    score = (_FRAME_MISFIT_WEIGHT * frame_misfit + part_misfit) / tolerance
    fits = score <= max_misfit
    return np.stack([start + half, np.full(len(start), half), score - tolerance], 1)[fits]


def _misfit(contrasts: Floats, start: NDArray[np.int64], loss: Floats, half: int) -> Floats:
    """Compute the relative squared deviation from a dissolve's contrast curve: [windows, parts].

    ``contrasts`` [frames, parts]; ``loss`` [windows, parts]: |A - B|^2. Frames are added in order,
    which gives the same result on every machine.
    """
    width = 2 * half
    first, last = contrasts[start], contrasts[start + width]
    deviation, expected_loss = np.zeros_like(loss), np.zeros_like(loss)
    for k in range(1, width):
        share = k / width
        curve = share * (1 - share) * loss
        below = first * (1 - share) + last * share - contrasts[start + k]
        deviation += (below - curve) ** 2
        expected_loss += curve**2
    return deviation / np.maximum(expected_loss, 1)


def _merge_windows(windows: Floats, frames: int) -> Transition:
    """Merge a dissolve's best window with those that score almost as well."""
    close = windows[windows[:, 2] <= windows[:, 2].min() + _SCORE_TOLERANCE]
    half = windows[np.argmin(windows[:, 2]), 1]
    margin = _MARGIN + _MARGIN_SHARE * 2 * half
    first = (close[:, 0] - close[:, 1]).min() - margin
    last = (close[:, 0] + close[:, 1]).max() + margin
    return Transition(max(0, round(first) + 1), min(frames, round(last)))
