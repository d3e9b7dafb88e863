"""Windows of several sizes over a grid of a frame's features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mimix_core.characters.bank import Floats

_HEIGHTS = (4, 5, 6, 8, 10, 12, 14, 15)
_ASPECTS = (0.5, 0.7, 1.0, 1.4)


@dataclass(frozen=True)
class WindowGrid:
    """All W windows of a grid of N cells, and a matrix that averages features over each window.

    ``cells_W4``: [x0, y0, x1, y1] in cells. ``mean_WN`` times the features of all cells, in row
    order, is the features of all windows. ``shape``: rows and columns of the grid.
    """

    cells_W4: NDArray[np.int64]
    mean_WN: Floats
    shape: tuple[int, int]


# Enlarged surroundings of boxes have many shapes, and a grid is of several MB.
@lru_cache(maxsize=8)
def build_window_grid(rows: int, columns: int) -> WindowGrid:
    """Build windows of all sizes with a stride of a quarter of their side."""
    cells = []
    for high in (h for h in _HEIGHTS if h <= rows):
        for wide in sorted({max(3, round(high * aspect)) for aspect in _ASPECTS}):
            if wide > columns:
                continue
            for y in _window_starts(high, rows):
                cells += [(x, y, x + wide, y + high) for x in _window_starts(wide, columns)]
    means = np.zeros((len(cells), rows, columns), np.float32)
    for mean, (x0, y0, x1, y1) in zip(means, cells, strict=True):
        mean[y0:y1, x0:x1] = 1 / ((x1 - x0) * (y1 - y0))
    return WindowGrid(np.array(cells), means.reshape(len(cells), rows * columns), (rows, columns))


def _window_starts(side: int, total: int) -> list[int]:
    """Start positions at every quarter of a side, and the one that ends at the frame's edge."""
    return sorted({*range(0, total - side + 1, max(1, side // 4)), total - side})
