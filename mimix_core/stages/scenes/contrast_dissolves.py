"""Dissolves found by the loss of contrast, however much the two shots move.

Of unrelated pictures A and B, a share a of B gives a contrast (variance) of

    V(a) = (1 - a) V(A) + a V(B) - a (1 - a) |A - B|^2

with mean colours taken out of |A - B|: below the line from V(A) to V(B) by a parabola. That holds
in every part of the picture, and keeps holding while either shot pans, since a shot's contrast
moves little with what it shows. So a window of frames is a dissolve when its contrast follows that
curve, with nothing fitted but where it stands: over the whole picture, and in most of its parts.
Something that moves within a shot changes the contrast of some parts, each at its own time.

The parabola is that of A. Alattar, "Detecting and compressing dissolve regions in video
sequences", 1993.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.frame_distances import PART_VALUES, VALUES, Blend, Floats, Tape

_HALVES = (4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 36, 40)
"""Half widths of the windows, frames. In a shorter one everything moves little: ``blends`` sees
it."""

_MISFIT = 0.2
"""The whole picture's contrast may be no farther from the curve; see ``_misfit``."""

_WHOLE = 4.0
"""So many times the misfit of the whole picture counts beside that of its parts."""

_UNRELATED, _TOLD = 0.35, 1.2
"""Less related ends make a deeper dip, and chance less likely: the misfit may be larger, up to the
second. Ends below the first are not looked at."""

_STEP = 0.65
"""A larger share of the way in one step is a cut and no transition."""

_VISIBLE = 9.0
"""Mean squared difference (levels^2 a value) below which two pictures are the same anyway."""

_AS_GOOD = 0.2
"""Windows whose score is no farther from the best say as well where the dissolve ends."""

_MARGIN, _MARGIN_SHARE = 2, 0.08
"""Frames added on both sides, and as a share of the window: at its ends a curve is flat."""


def find_dips(tape: Tape, misfit: float) -> list[Blend]:
    """Dissolves, the surest first; they may overlap.

    ``misfit``: how far the contrast of the parts (their median, and four times the whole picture's)
    may be from the curve, where the ends are unrelated; see ``_misfit``.
    """
    windows = np.concatenate(
        [np.zeros((0, 3)), *(_windows(tape, half, misfit) for half in _HALVES)]
    )
    found = []
    while len(windows):
        middle, half, _ = windows[np.argmin(windows[:, 2])]
        same = np.abs(windows[:, 0] - middle) <= half
        found.append(_hull(windows[same], len(tape)))
        windows = windows[~same]
    return found


def _windows(tape: Tape, half: int, misfit: float) -> Floats:
    """[windows, 3]: middle, half width and score (less is better) of those that fit."""
    width = 2 * half
    if len(tape) <= width:
        return np.zeros((0, 3))
    start = np.arange(len(tape) - width)
    ends = tape.apart(start, width)
    steps = np.sqrt(tape.apart(np.arange(len(tape) - 1), 1))
    largest = np.lib.stride_tricks.sliding_window_view(steps, width).max(1)
    unrelated = tape.unrelated(start, width)
    # A cheap look first: most windows of most films fail these.
    start = start[
        (unrelated >= _UNRELATED) & (ends >= _VISIBLE * VALUES) & (largest <= _STEP * np.sqrt(ends))
    ]
    whole = _misfit(tape.variances[:, None], start, tape.aside(start, width)[:, None], half)[:, 0]
    start, whole = start[whole <= _MISFIT], whole[whole <= _MISFIT]
    loss = tape.parts_aside(start, width)
    parts = np.median(
        _misfit(tape.part_variances, start, np.maximum(loss, PART_VALUES), half), axis=1
    )
    told = np.minimum(tape.unrelated(start, width), _TOLD)
    score = (_WHOLE * whole + parts) / told
    fits = score <= misfit
    return np.stack([start + half, np.full(len(start), half), score - told], 1)[fits]


def _misfit(contrasts: Floats, start: NDArray[np.int64], loss: Floats, half: int) -> Floats:
    """[windows, parts]: squared distance of the windows' contrast from a dissolve's, as a share.

    ``contrasts`` [frames, parts]; ``loss`` [windows, parts]: |A - B|^2. Added frame by frame, in
    order: the same on every machine.
    """
    width = 2 * half
    first, last = contrasts[start], contrasts[start + width]
    off, dip = np.zeros_like(loss), np.zeros_like(loss)
    for k in range(1, width):
        share = k / width
        curve = share * (1 - share) * loss
        below = first * (1 - share) + last * share - contrasts[start + k]
        off += (below - curve) ** 2
        dip += curve**2
    return off / np.maximum(dip, 1)


def _hull(windows: Floats, frames: int) -> Blend:
    """The frames of the best of a dissolve's windows, and of those as good."""
    close = windows[windows[:, 2] <= windows[:, 2].min() + _AS_GOOD]
    half = windows[np.argmin(windows[:, 2]), 1]
    margin = _MARGIN + _MARGIN_SHARE * 2 * half
    first = (close[:, 0] - close[:, 1]).min() - margin
    last = (close[:, 0] + close[:, 1]).max() + margin
    return Blend(max(0, round(first) + 1), min(frames, round(last)))
