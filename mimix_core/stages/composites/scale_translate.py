"""Moves of a picture: scaling and shifting, and what they do to points and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""[frames, 4]: x0, y0, x1, y1 in pixels of a frame; all 0 where there is nothing."""


@dataclass(frozen=True)
class Size:
    width: int
    height: int


@dataclass(frozen=True)
class Move:
    """A point at (X, Y) comes to (scale X + x, scale Y + y).

    Pixels are squares: the first one reaches from 0 to 1, and its middle lies at 0.5.
    """

    scale: float = 1.0
    x: float = 0.0
    y: float = 0.0

    def after(self, first: Move) -> Move:
        """The one move that does ``first`` and then this one."""
        return Move(
            self.scale * first.scale,
            self.scale * first.x + self.x,
            self.scale * first.y + self.y,
        )

    def undone(self) -> Move:
        """The move that takes everything back to where it was."""
        return Move(1 / self.scale, -self.x / self.scale, -self.y / self.scale)

    @property
    def whole(self) -> bool:
        """Whether pixels come to lie on pixels: nothing has to be interpolated."""
        return self.scale == 1 and float(self.x).is_integer() and float(self.y).is_integer()


STILL = Move()


def as_boxes(boxes: Sequence[Sequence[int]]) -> Boxes:
    """Boxes of a table's row (see ``tables.CUTOUTS``) as an array."""
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def present(boxes_N4: Boxes) -> NDArray[np.bool_]:
    """In which frames there is anything."""
    found: NDArray[np.bool_] = (boxes_N4[:, 2] > boxes_N4[:, 0]) & (boxes_N4[:, 3] > boxes_N4[:, 1])
    return found


def moved(boxes_N4: Boxes, moves: Sequence[Move]) -> Boxes:
    """Each frame's box after that frame's move; empty ones stay empty."""
    table = np.array([[move.scale, move.x, move.y] for move in moves])
    result: Boxes = boxes_N4 * table[:, :1] + table[:, [1, 2, 1, 2]]
    result[~present(boxes_N4)] = 0
    return result


def shared_area(one_N4: Boxes, other_N4: Boxes) -> NDArray[np.float64]:
    """Area that two boxes share in each frame, square pixels."""
    width = np.minimum(one_N4[:, 2], other_N4[:, 2]) - np.maximum(one_N4[:, 0], other_N4[:, 0])
    height = np.minimum(one_N4[:, 3], other_N4[:, 3]) - np.maximum(one_N4[:, 1], other_N4[:, 1])
    area: NDArray[np.float64] = np.maximum(width, 0) * np.maximum(height, 0)
    return area


def area_of(boxes_N4: Boxes) -> NDArray[np.float64]:
    """Area of each frame's box, square pixels."""
    return shared_area(boxes_N4, boxes_N4)
