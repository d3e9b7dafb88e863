"""Transitions found on thumbnails: dissolves, fades, and cuts that are faint but complete.

A dissolve draws each picture between two shots as a weighted mean of both. So for a window of
2n + 1 frames around its middle c, two things hold at once that motion does not bring together:

- the ends have little to do with each other: their covariance is at most half their variance;
- the middle is the mean of the ends, but for what moves:
  |f(c) - (f(c-n) + f(c+n)) / 2| is small against |f(c+n) - f(c-n)|.

A pan long enough for the first breaks the second, and one slow enough for the second breaks the
first. A fade is a dissolve with a plain picture. All of it follows from the squared distances of
thumbnails up to ``LAG`` frames apart; those are whole numbers, so nothing depends on the machine.

The linear model of a dissolve is that of A. Hampapur, R. Jain, T. Weymouth, "Production model
based digital video segmentation", 1995; that frames of a dissolve lie on a line is used by many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimix_core.scenes.pictures import THUMB_SIZE, Bytes

LAG = 80
"""Frames that a transition may span."""

_HALVES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 36, 40)
"""Half widths of the windows, frames."""

_BLOCK = 128
"""Frames whose distances are computed at a time."""

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

_PIXELS = THUMB_SIZE[0] * THUMB_SIZE[1]
_PLANES = (_PIXELS, _PIXELS // 4, _PIXELS // 4)
_VALUES = sum(_PLANES)

Distances = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Blend:
    """Frames [start, end) that belong to no shot."""

    start: int
    end: int


class Thumbs:
    """Distances between the thumbnails of a video, added in order.

    Keeps ``LAG`` thumbnails, and four bytes a frame and lag of what was computed.
    """

    def __init__(self) -> None:
        self._waiting: list[Bytes] = []
        self._distances: list[NDArray[np.int32]] = []
        self._sums: list[NDArray[np.int64]] = []
        self._squares: list[NDArray[np.int64]] = []

    def add(self, thumb: Bytes) -> None:
        self._waiting.append(thumb)
        if len(self._waiting) == _BLOCK + LAG:
            self._compute(_BLOCK)

    def finish(self) -> Tape:
        """All of it; nothing can be added after."""
        while self._waiting:
            self._compute(min(_BLOCK, len(self._waiting)))
        empty = np.zeros((0, LAG + 1), np.int32)
        return Tape(
            np.concatenate([empty, *self._distances]),
            np.concatenate([np.zeros((0, 3), np.int64), *self._sums]),
            np.concatenate([np.zeros(0, np.int64), *self._squares]),
        )

    def _compute(self, count: int) -> None:
        # Around zero, all sums of products are whole numbers of at most 864 * 128^2 < 2^24: single
        # precision holds them exactly, in whatever order they are added.
        values = np.stack(self._waiting).astype(np.float32) - 128
        squares = np.einsum("ij,ij->i", values, values).astype(np.int64)
        products = (values[:count] @ values.T).astype(np.int64)
        distances = np.full((count, LAG + 1), -1, np.int32)
        for row in range(count):
            known = min(LAG + 1, len(values) - row)
            ahead = slice(row, row + known)
            distances[row, :known] = squares[row] + squares[ahead] - 2 * products[row, ahead]
        first, second = _PLANES[0], _PLANES[0] + _PLANES[1]
        planes = np.split(values[:count], [first, second], axis=1)
        self._distances.append(distances)
        self._sums.append(np.stack([plane.sum(1) for plane in planes], 1).astype(np.int64))
        self._squares.append(squares[:count])
        del self._waiting[:count]


@dataclass(frozen=True)
class Tape:
    """Distances of a whole video's thumbnails.

    ``distances`` [frames, LAG + 1]: squared, from frame i to frame i + lag; -1 past the end.
    ``sums`` [frames, 3]: of the values of each plane. ``squares`` [frames]: of all values.
    """

    distances: NDArray[np.int32]
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.distances)

    def apart(self, one: NDArray[np.int64], lag: int) -> Distances:
        """Squared distance of frames ``one`` to the frames ``lag`` later."""
        found: Distances = self.distances[one, lag].astype(np.int64)
        return found

    def between(self, one: int, other: int) -> int:
        low, high = min(one, other), max(one, other)
        return int(self.distances[low, high - low])

    def variances(self) -> Floats:
        """Of each frame: its squared distance from a plain picture of its own mean colour."""
        plain = sum(self.sums[:, plane] ** 2 / pixels for plane, pixels in enumerate(_PLANES))
        found: Floats = np.asarray(self.squares - plain, np.float64)
        return found

    def unrelated(self, one: NDArray[np.int64], lag: int, variances: Floats) -> Floats:
        """1 - 2 cov / (var + var) of frames and those ``lag`` later: 0 same, 1 unrelated."""
        other = one + lag
        shift = sum(
            (self.sums[other, plane] - self.sums[one, plane]) ** 2 / pixels
            for plane, pixels in enumerate(_PLANES)
        )
        contrast = variances[one] + variances[other]
        share: Floats = (self.apart(one, lag) - shift) / np.maximum(contrast, _VALUES)
        return share

    def way(self, start: int, frame: int, end: int) -> float:
        """How far ``frame`` is on the way from frame ``start`` (0) to frame ``end`` (1)."""
        length = self.between(start, end)
        if length == 0:
            return 0.0
        return (self.between(start, frame) - self.between(frame, end) + length) / (2 * length)


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
    unrelated = tape.unrelated(frames, 1, tape.variances())
    cut = (
        (step >= _CUT_RATIO * around)
        & (unrelated >= _CUT_UNRELATED)
        & (step**2 >= _VISIBLE / 2 * _VALUES)
    )
    return [int(frame) + 1 for frame in np.flatnonzero(cut)]


def real_cuts(tape: Tape, cuts: Iterable[int]) -> list[int]:
    """Those of ``cuts`` at which the picture becomes another one.

    A drawing that is held for some frames and then moves a little is a large change after none.
    """
    variances = tape.variances()
    return [
        cut
        for cut in cuts
        if tape.between(cut - 1, cut) >= _ALIKE * max(variances[cut - 1] + variances[cut], _VALUES)
    ]


def find_blends(tape: Tape, residual: float) -> list[Blend]:
    """Dissolves and fades, in order, apart from each other.

    ``residual``: how far the middle may be from the mean of the ends, as a share of their
    distance.
    """
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
    return _merged(found)


def _middles(tape: Tape, residual: float) -> tuple[Floats, NDArray[np.int64]]:
    """For each frame how well it fits as the middle of a blend (less is better), and the half
    width of the window that fits best; 0: it is no middle.
    """
    frames = len(tape)
    best, half = np.full(frames, np.inf), np.zeros(frames, np.int64)
    variances = tape.variances()
    steps = np.sqrt(tape.apart(np.arange(frames - 1), 1)) if frames > 1 else np.zeros(0)
    for n in _HALVES:
        if frames < 2 * n + 1:
            break
        start = np.arange(frames - 2 * n)
        ends = tape.apart(start, 2 * n)
        off = (tape.apart(start, n) + tape.apart(start + n, n)) / 2 - ends / 4
        share = np.sqrt(np.maximum(off, 0) / np.maximum(ends, 1))
        largest = np.lib.stride_tricks.sliding_window_view(steps, 2 * n).max(1)
        unrelated = tape.unrelated(start, 2 * n, variances)
        around = np.maximum(variances[start] + variances[start + 2 * n], _VALUES) / 2
        dip = 1 - variances[start + n] / around
        fits = (
            (share <= residual)
            & (dip >= _DIP * unrelated / 2)
            & (unrelated >= _UNRELATED)
            & (ends >= _VISIBLE * _VALUES)
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
