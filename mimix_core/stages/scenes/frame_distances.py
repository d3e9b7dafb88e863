"""Distances and contrasts computed from the thumbnails of a complete video.

All sums are integer sums, exact in any order, and divisions are done elementwise: the results do
not depend on the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.frame_downscale import THUMBNAIL_SIZE, ByteArray

MAX_TRANSITION_FRAMES = 80
"""Maximum length of a transition, frames."""

_BLOCK = 128
"""Number of frames whose distances are computed at once."""

_PART_GRID = (3, 2)
"""Rows and columns of the parts of a thumbnail. Both divide its luma and its chroma planes."""

_PIXELS = THUMBNAIL_SIZE[0] * THUMBNAIL_SIZE[1]
_PLANE_SIZES = (_PIXELS, _PIXELS // 4, _PIXELS // 4)
_PLANE_SHAPES = (THUMBNAIL_SIZE[::-1], *[(THUMBNAIL_SIZE[1] // 2, THUMBNAIL_SIZE[0] // 2)] * 2)
_PLANE_EDGES = (_PLANE_SIZES[0], _PLANE_SIZES[0] + _PLANE_SIZES[1])
THUMBNAIL_VALUES = sum(_PLANE_SIZES)
"""Values of a thumbnail: luma, and two chroma planes of a quarter of its size."""
PART_VALUES = THUMBNAIL_VALUES // (_PART_GRID[0] * _PART_GRID[1])

Distances = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Transition:
    """A transition: frames [start, end) that do not belong to a single shot."""

    start: int
    end: int


@dataclass(frozen=True)
class Segment:
    """Frames [start, end): a shot, or a transition between two.

    ``dropped_frames``: number of frames dropped after this segment, because their timestamps do not
    increase.
    """

    start: int
    end: int
    transition: bool
    dropped_frames: int = 0


class FrameDistanceBuilder:
    """Computes the distances between the thumbnails of a video, added in order.

    Memory: the thumbnails, and four bytes per frame and lag.
    """

    def __init__(self) -> None:
        self._pending: list[ByteArray] = []
        self._thumbnails: list[ByteArray] = []
        self._distances: list[NDArray[np.int32]] = []
        self._sums: list[NDArray[np.int64]] = []
        self._squares: list[NDArray[np.int64]] = []

    def add(self, thumbnail: ByteArray) -> None:
        """Add the next frame's thumbnail, uint8 [THUMBNAIL_VALUES]."""
        self._pending.append(thumbnail)
        if len(self._pending) == _BLOCK + MAX_TRANSITION_FRAMES:
            self._compute(_BLOCK)

    def finish(self) -> FrameDistances:
        """Return the distances of all frames; nothing can be added afterwards."""
        while self._pending:
            self._compute(min(_BLOCK, len(self._pending)))
        return FrameDistances(
            np.concatenate([np.zeros((0, MAX_TRANSITION_FRAMES + 1), np.int32), *self._distances]),
            np.concatenate([np.zeros((0, 3), np.int64), *self._sums]),
            np.concatenate([np.zeros(0, np.int64), *self._squares]),
            np.concatenate([np.zeros((0, THUMBNAIL_VALUES), np.uint8), *self._thumbnails]),
        )

    def _compute(self, count: int) -> None:
        # For values centered around zero, all sums of products are integers of at most
        # 864 * 128^2 < 2^24: exact in single precision, in any order of additions.
        thumbnails = np.stack(self._pending)
        values = thumbnails.astype(np.float32) - 128
        squares = np.einsum("ij,ij->i", values, values).astype(np.int64)
        products = (values[:count] @ values.T).astype(np.int64)
        distances = np.full((count, MAX_TRANSITION_FRAMES + 1), -1, np.int32)
        for row in range(count):
            valid = min(MAX_TRANSITION_FRAMES + 1, len(values) - row)
            ahead = slice(row, row + valid)
            distances[row, :valid] = squares[row] + squares[ahead] - 2 * products[row, ahead]
        planes = np.split(values[:count], _PLANE_EDGES, axis=1)
        self._thumbnails.append(thumbnails[:count])
        self._distances.append(distances)
        self._sums.append(np.stack([plane.sum(1) for plane in planes], 1).astype(np.int64))
        self._squares.append(squares[:count])
        del self._pending[:count]


@dataclass(frozen=True)
class FrameDistances:
    """The thumbnails of a video and the squared distances between them.

    ``distances`` [frames, MAX_TRANSITION_FRAMES + 1]: from frame i to frame i + lag; -1 past the
    end. ``sums`` [frames, 3]: of the values of each plane. ``squares`` [frames]: of all values;
    both for values centered around zero. ``thumbnails`` [frames, THUMBNAIL_VALUES]: 0 to 255.
    """

    distances: NDArray[np.int32]
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]
    thumbnails: ByteArray

    def __len__(self) -> int:
        return len(self.distances)

    def lag_distance(self, first: NDArray[np.int64], lag: int) -> Distances:
        """Squared distance from frames ``first`` to the frames ``lag`` later."""
        result: Distances = self.distances[first, lag].astype(np.int64)
        return result

    def distance(self, first: int, second: int) -> int:
        """Squared distance of two frames."""
        low, high = min(first, second), max(first, second)
        return int(self.distances[low, high - low])

    @cached_property
    def variances(self) -> Floats:
        """[frames]: the contrast, as squared distance from a plain frame of the same mean color."""
        plain = sum(self.sums[:, plane] ** 2 / pixels for plane, pixels in enumerate(_PLANE_SIZES))
        result: Floats = np.asarray(self.squares - plain, np.float64)
        return result

    def centered_lag_distance(self, first: NDArray[np.int64], lag: int) -> Floats:
        """Squared distance of frames to those ``lag`` later, after removing their mean colors."""
        second = first + lag
        shift = sum(
            (self.sums[second, plane] - self.sums[first, plane]) ** 2 / pixels
            for plane, pixels in enumerate(_PLANE_SIZES)
        )
        result: Floats = self.lag_distance(first, lag) - shift
        return result

    def decorrelation(self, first: NDArray[np.int64], lag: int) -> Floats:
        """1 - 2 cov / (var + var) of frames and those ``lag`` later: 0 equal, 1 unrelated."""
        contrast = self.variances[first] + self.variances[first + lag]
        share: Floats = self.centered_lag_distance(first, lag) / np.maximum(
            contrast, THUMBNAIL_VALUES
        )
        return share

    def progress(self, start: int, frame: int, end: int) -> float:
        """Position of ``frame`` projected on the line from frame ``start`` (0) to ``end`` (1)."""
        length = self.distance(start, end)
        if length == 0:
            return 0.0
        return (self.distance(start, frame) - self.distance(frame, end) + length) / (2 * length)

    @cached_property
    def part_variances(self) -> Floats:
        """[frames, parts]: the contrast of each part around its own mean color."""
        chunks = range(0, len(self), _BLOCK)
        parts = _PART_GRID[0] * _PART_GRID[1]
        parts_of_blocks = [
            _part_contrasts(self.thumbnails[start : start + _BLOCK].astype(np.int64) - 128)
            for start in chunks
        ]
        return np.concatenate([np.zeros((0, parts)), *parts_of_blocks])

    def centered_part_distance(self, first: NDArray[np.int64], lag: int) -> Floats:
        """[frames, parts]: ``centered_lag_distance`` of each part of the thumbnails alone."""
        ahead = self.thumbnails[first + lag].astype(np.int64)
        return _part_contrasts(ahead - self.thumbnails[first])


def _part_contrasts(values: NDArray[np.int64]) -> Floats:
    """Sum the squares around each part's mean over all three planes: [frames, parts]."""
    rows, columns = _PART_GRID
    contrasts = np.zeros((len(values), rows * columns))
    planes = np.split(values, _PLANE_EDGES, axis=1)
    for plane, (height, width) in zip(planes, _PLANE_SHAPES, strict=True):
        tiles = plane.reshape(len(values), rows, height // rows, columns, width // columns)
        size = height // rows * (width // columns)
        plain = tiles.sum((2, 4)) ** 2 / size
        contrasts += ((tiles**2).sum((2, 4)) - plain).reshape(contrasts.shape)
    return contrasts
