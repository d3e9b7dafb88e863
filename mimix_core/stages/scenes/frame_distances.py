"""Thumbnails of a whole video and what follows from them: distances, contrasts, parts.

All sums are of whole numbers, exact in whatever order they are added; what is divided is divided
value by value. So nothing here depends on the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.frame_downscale import THUMB_SIZE, Bytes

LAG = 80
"""Frames that a transition may span."""

_BLOCK = 128
"""Frames whose distances are computed at a time."""

_PARTS = (3, 2)
"""Rows and columns of the parts of a picture. Both divide the thumbnail's luma and its chroma."""

_PIXELS = THUMB_SIZE[0] * THUMB_SIZE[1]
_PLANES = (_PIXELS, _PIXELS // 4, _PIXELS // 4)
_SHAPES = (THUMB_SIZE[::-1], *[(THUMB_SIZE[1] // 2, THUMB_SIZE[0] // 2)] * 2)
_EDGES = (_PLANES[0], _PLANES[0] + _PLANES[1])
VALUES = sum(_PLANES)
"""Values of a thumbnail: luma, and two chroma planes of a quarter."""
PART_VALUES = VALUES // (_PARTS[0] * _PARTS[1])

Distances = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Blend:
    """Frames [start, end) that belong to no shot."""

    start: int
    end: int


class Thumbs:
    """Distances between the thumbnails of a video, added in order.

    Keeps the thumbnails, and four bytes a frame and lag of what was computed.
    """

    def __init__(self) -> None:
        self._waiting: list[Bytes] = []
        self._thumbs: list[Bytes] = []
        self._distances: list[NDArray[np.int32]] = []
        self._sums: list[NDArray[np.int64]] = []
        self._squares: list[NDArray[np.int64]] = []

    def add(self, thumb: Bytes) -> None:
        """The next frame's: uint8 [VALUES]."""
        self._waiting.append(thumb)
        if len(self._waiting) == _BLOCK + LAG:
            self._compute(_BLOCK)

    def finish(self) -> Tape:
        """All of it; nothing can be added after."""
        while self._waiting:
            self._compute(min(_BLOCK, len(self._waiting)))
        return Tape(
            np.concatenate([np.zeros((0, LAG + 1), np.int32), *self._distances]),
            np.concatenate([np.zeros((0, 3), np.int64), *self._sums]),
            np.concatenate([np.zeros(0, np.int64), *self._squares]),
            np.concatenate([np.zeros((0, VALUES), np.uint8), *self._thumbs]),
        )

    def _compute(self, count: int) -> None:
        # Around zero, all sums of products are whole numbers of at most 864 * 128^2 < 2^24: single
        # precision holds them exactly, in whatever order they are added.
        thumbs = np.stack(self._waiting)
        values = thumbs.astype(np.float32) - 128
        squares = np.einsum("ij,ij->i", values, values).astype(np.int64)
        products = (values[:count] @ values.T).astype(np.int64)
        distances = np.full((count, LAG + 1), -1, np.int32)
        for row in range(count):
            known = min(LAG + 1, len(values) - row)
            ahead = slice(row, row + known)
            distances[row, :known] = squares[row] + squares[ahead] - 2 * products[row, ahead]
        planes = np.split(values[:count], _EDGES, axis=1)
        self._thumbs.append(thumbs[:count])
        self._distances.append(distances)
        self._sums.append(np.stack([plane.sum(1) for plane in planes], 1).astype(np.int64))
        self._squares.append(squares[:count])
        del self._waiting[:count]


@dataclass(frozen=True)
class Tape:
    """A whole video's thumbnails and the distances between them.

    ``distances`` [frames, LAG + 1]: squared, from frame i to frame i + lag; -1 past the end.
    ``sums`` [frames, 3]: of the values of each plane. ``squares`` [frames]: of all values. Both of
    values around zero. ``thumbs`` [frames, VALUES]: the values themselves, 0 to 255.
    """

    distances: NDArray[np.int32]
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]
    thumbs: Bytes

    def __len__(self) -> int:
        return len(self.distances)

    def apart(self, one: NDArray[np.int64], lag: int) -> Distances:
        """Squared distance of frames ``one`` to the frames ``lag`` later."""
        found: Distances = self.distances[one, lag].astype(np.int64)
        return found

    def between(self, one: int, other: int) -> int:
        """Squared distance of two frames."""
        low, high = min(one, other), max(one, other)
        return int(self.distances[low, high - low])

    @cached_property
    def variances(self) -> Floats:
        """Of each frame: its squared distance from a plain picture of its own mean colour."""
        plain = sum(self.sums[:, plane] ** 2 / pixels for plane, pixels in enumerate(_PLANES))
        found: Floats = np.asarray(self.squares - plain, np.float64)
        return found

    def aside(self, one: NDArray[np.int64], lag: int) -> Floats:
        """Squared distance, mean colours apart, of frames ``one`` to the frames ``lag`` later."""
        other = one + lag
        shift = sum(
            (self.sums[other, plane] - self.sums[one, plane]) ** 2 / pixels
            for plane, pixels in enumerate(_PLANES)
        )
        found: Floats = self.apart(one, lag) - shift
        return found

    def unrelated(self, one: NDArray[np.int64], lag: int) -> Floats:
        """1 - 2 cov / (var + var) of frames and those ``lag`` later: 0 same, 1 unrelated."""
        contrast = self.variances[one] + self.variances[one + lag]
        share: Floats = self.aside(one, lag) / np.maximum(contrast, VALUES)
        return share

    def way(self, start: int, frame: int, end: int) -> float:
        """How far ``frame`` is on the way from frame ``start`` (0) to frame ``end`` (1)."""
        length = self.between(start, end)
        if length == 0:
            return 0.0
        return (self.between(start, frame) - self.between(frame, end) + length) / (2 * length)

    @cached_property
    def part_variances(self) -> Floats:
        """[frames, parts]: each part's squared distance from its own mean colour."""
        chunks = range(0, len(self), _BLOCK)
        parts = _PARTS[0] * _PARTS[1]
        found = [_contrasts(self.thumbs[k : k + _BLOCK].astype(np.int64) - 128) for k in chunks]
        return np.concatenate([np.zeros((0, parts)), *found])

    def parts_aside(self, one: NDArray[np.int64], lag: int) -> Floats:
        """[frames, parts]: as ``aside``, in each part of the pictures by itself."""
        ahead = self.thumbs[one + lag].astype(np.int64)
        return _contrasts(ahead - self.thumbs[one])


def _contrasts(values: NDArray[np.int64]) -> Floats:
    """[frames, parts]: sums of squares around each part's mean, all three planes together."""
    rows, columns = _PARTS
    found = np.zeros((len(values), rows * columns))
    for plane, (height, width) in zip(np.split(values, _EDGES, axis=1), _SHAPES, strict=True):
        tiles = plane.reshape(len(values), rows, height // rows, columns, width // columns)
        size = height // rows * (width // columns)
        plain = tiles.sum((2, 4)) ** 2 / size
        found += ((tiles**2).sum((2, 4)) - plain).reshape(found.shape)
    return found
