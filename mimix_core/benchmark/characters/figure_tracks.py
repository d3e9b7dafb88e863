"""Find figures in maps of how likely each cell of a frame shows each character.

A figure is a path of windows through the frames. Windows have the sizes of the character's own
figures in its clips; of all paths of all characters the most certain one is taken first, and what
it covers counts as background afterwards, so that a second figure of a character is found as well.
In the end, figures are looked for whose cells are somebody's, but of no one in particular.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.characters.discriminant import Doubles

Ints = NDArray[np.int64]

_CANDIDATES = 30
_OVERLAP_WEIGHT = 0.3
"""Worth of a window at the same place as in the frame before, in expected areas."""

_CELL_COST = 0.35
"""A cell is worth having in a window if it shows the character at least so likely."""

_MIN_VALUE = 0.12
"""Mean value of a path, in expected areas, from which it is a figure."""

_MIN_FRAME_VALUE = 0.08
"""Value of a window from which the figure is visible in that frame."""

_SIZES = (0.75, 1.0, 1.3)
"""Sides of windows, as shares of the character's typical ones."""


@dataclass(frozen=True)
class FigureSize:
    """Height and width of a character's figures in its clips, as shares of the frame's height.

    ``fill``: the share of their box that they cover.
    """

    height: float
    width: float
    fill: float


@dataclass(frozen=True)
class FigureTrack:
    """One figure: a window [x0, y0, x1, y1] in cells per frame, None where it is not visible.

    ``character``: whose cells it was found by; empty for no one in particular. ``value``: how
    certain it is.
    """

    character: str
    value: float
    windows: tuple[tuple[int, int, int, int] | None, ...]


def find_figures(
    posteriors_TYXC: Doubles,
    names: Sequence[str],
    sizes: Mapping[str, FigureSize],
    most: int,
) -> list[FigureTrack]:
    """Return up to ``most`` figures, the most certain first, and last those of no one.

    ``posteriors_TYXC``: of each cell of T frames, for each of ``names``; what is missing to 1 is
    background. ``sizes``: of the figures of each name.
    """
    left_TYX = np.ones(posteriors_TYXC.shape[:3])
    tracks: list[FigureTrack] = []
    paths: dict[str, FigureTrack | None] = {}
    while len(tracks) < most:
        for number, name in enumerate(names):
            if name not in paths:
                gains_TYX = posteriors_TYXC[..., number] * left_TYX - _CELL_COST
                paths[name] = _best_path(gains_TYX, name, sizes[name])
        found = [path for path in paths.values() if path is not None]
        if not found:
            gains_TYX = posteriors_TYXC.sum(axis=3) * left_TYX - _CELL_COST
            anybody = _best_path(gains_TYX, "", _mean_size(sizes))
            found = [] if anybody is None else [anybody]
        if not found:
            break
        best = max(found, key=lambda path: path.value)
        tracks.append(best)
        for frame, window in enumerate(best.windows):
            if window is not None:
                x0, y0, x1, y1 = window
                left_TYX[frame, y0:y1, x0:x1] = 0
        # A path that shares no cell with the one taken is the best one still.
        paths = {name: path for name, path in paths.items() if not _touches(path, best)}
    return tracks


def _mean_size(sizes: Mapping[str, FigureSize]) -> FigureSize:
    values = np.mean([(one.height, one.width, one.fill) for one in sizes.values()], axis=0)
    return FigureSize(*(float(value) for value in values))


def _touches(path: FigureTrack | None, taken: FigureTrack) -> bool:
    if path is None:
        return False
    return path is taken or any(
        one is not None and other is not None and _iou(one, other) > 0
        for one, other in zip(path.windows, taken.windows, strict=True)
    )


def _best_path(gains_TYX: Doubles, name: str, size: FigureSize) -> FigureTrack | None:
    """Return the best path of windows of one character; None if it is no figure."""
    rows, columns = gains_TYX.shape[1:]
    shapes = _window_shapes(size, rows, columns)
    expected = max(1.0, size.height * size.width * rows * rows * size.fill)
    candidates = [_best_windows(gains_YX / expected, shapes) for gains_YX in gains_TYX]
    path = _follow(candidates)
    values = [candidates[frame][1][state] for frame, state in enumerate(path)]
    value = float(np.mean(values))
    if value < _MIN_VALUE:
        return None
    windows = [
        _as_window(candidates[frame][0][state]) if values[frame] >= _MIN_FRAME_VALUE else None
        for frame, state in enumerate(path)
    ]
    return FigureTrack(name, round(value, 4), tuple(windows))


def _as_window(window_4: Ints) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (int(side) for side in window_4)
    return x0, y0, x1, y1


def _window_shapes(size: FigureSize, rows: int, columns: int) -> list[tuple[int, int]]:
    """Return the heights and widths in cells that are tried."""
    heights = {min(rows, max(2, round(size.height * rows * share))) for share in _SIZES}
    widths = {min(columns, max(2, round(size.width * rows * share))) for share in _SIZES}
    return [(high, wide) for high in sorted(heights) for wide in sorted(widths)]


def _best_windows(gains_YX: Doubles, shapes: Sequence[tuple[int, int]]) -> tuple[Ints, Doubles]:
    """Return the windows_K4 with the largest sums of gains, and these sums."""
    rows, columns = gains_YX.shape
    sums = np.zeros((rows + 1, columns + 1))
    sums[1:, 1:] = gains_YX.cumsum(axis=0).cumsum(axis=1)
    windows, values = [], []
    for high, wide in shapes:
        inside = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide]
        inside = inside + sums[:-high, :-wide]
        best = np.argsort(-inside, axis=None, kind="stable")[:_CANDIDATES]
        ys, xs = np.unravel_index(best, inside.shape)
        windows.append(np.stack([xs, ys, xs + wide, ys + high], axis=1))
        values.append(inside.ravel()[best])
    windows_K4, values_K = np.concatenate(windows), np.concatenate(values)
    order = np.argsort(-values_K, kind="stable")[:_CANDIDATES]
    return windows_K4[order], values_K[order]


def _follow(candidates: Sequence[tuple[Ints, Doubles]]) -> list[int]:
    """Select a window per frame by value and overlap between frames (Viterbi's algorithm)."""
    best = candidates[0][1]
    back: list[Ints] = []
    for (before_K4, _), (windows_K4, values_K) in pairwise(candidates):
        totals = best[None] + _OVERLAP_WEIGHT * _ious(windows_K4, before_K4)
        back.append(totals.argmax(axis=1))
        best = values_K + totals.max(axis=1)
    path = [int(best.argmax())]
    for sources in reversed(back):
        path.append(int(sources[path[-1]]))
    return path[::-1]


def _ious(windows_A4: Ints, windows_B4: Ints) -> Doubles:
    """Return the IoU_AB of all pairs of windows."""
    low = np.maximum(windows_A4[:, None, :2], windows_B4[None, :, :2])
    high = np.minimum(windows_A4[:, None, 2:], windows_B4[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(axis=2)
    areas_A = (windows_A4[:, 2:] - windows_A4[:, :2]).prod(axis=1)
    areas_B = (windows_B4[:, 2:] - windows_B4[:, :2]).prod(axis=1)
    ious: Doubles = inside / (areas_A[:, None] + areas_B[None] - inside)
    return ious


def _iou(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    return float(_ious(np.array([one]), np.array([other]))[0, 0])
