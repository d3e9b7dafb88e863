"""Measure by masks how much of a pasted figure is in the frame, and what it covers.

Masks are compared on a coarse grid in evenly spaced frames of the clip: a placement tries dozens of
positions, and to compare them needs no single pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.masks import read_masks
from mimix_core.stages.composites.scale_translate import Boxes, FrameSize, ScaleTranslate

_MAX_FRAMES = 21
"""Number of frames that are compared, evenly spaced over the clip."""

_COLUMNS = 104
"""Number of grid cells in a row; narrower frames have a cell for each pixel."""

_SOLID = 128
"""Mean alpha from which a cell belongs to the figure."""


def sample_frames(count: int, most: int = _MAX_FRAMES) -> list[int]:
    """Return the indices of at most ``most`` evenly spaced frames, the first and last included."""
    return sorted({round(n * (count - 1) / max(most - 1, 1)) for n in range(most)})


@dataclass(frozen=True)
class Silhouette:
    """The grid cells [frames, rows, columns] that a figure takes up in ``frames`` of its clip."""

    frames: tuple[int, ...]
    size: FrameSize
    cells_FHW: NDArray[np.bool_]

    @property
    def cell_width(self) -> float:
        """Width of a cell in pixels."""
        return self.size.width / int(self.cells_FHW.shape[2])

    @property
    def cell_height(self) -> float:
        """Height of a cell in pixels."""
        return self.size.height / int(self.cells_FHW.shape[1])

    @cached_property
    def areas_F(self) -> NDArray[np.float64]:
        """Area in each of ``frames``, in square pixels."""
        counts = self.cells_FHW.sum(axis=(1, 2), dtype=np.float64)
        return np.asarray(counts * self.cell_width * self.cell_height)

    @cached_property
    def points(self) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        """The centers of all cells: position in ``frames``, x and y in pixels."""
        frame, row, column = np.nonzero(self.cells_FHW)
        x = (column.astype(np.float64) + 0.5) * self.cell_width
        y = (row.astype(np.float64) + 0.5) * self.cell_height
        return frame.astype(np.intp), x, y


def load_silhouette(masks: Path, count: int, size: FrameSize) -> Silhouette:
    """Load the silhouette of a masks file with ``count`` frames.

    Raises BadInput, and ValueError for masks of another size than ``size``.
    """
    frames = sample_frames(count)
    alphas_NHW = read_masks(masks, frames)
    height, width = alphas_NHW.shape[1:]
    if (width, height) != (size.width, size.height):
        raise ValueError(f"{masks.name}: masks of {width} x {height} do not fit {size}")
    columns, rows = _grid(size)
    cells = [
        cv2.resize(alpha_HW, (columns, rows), interpolation=cv2.INTER_AREA) >= _SOLID
        for alpha_HW in alphas_NHW
    ]
    return Silhouette(tuple(frames), size, np.stack(cells))


def silhouette_of_boxes(boxes_N4: Boxes, size: FrameSize) -> Silhouette:
    """Return the silhouette of a figure of which only the boxes are known: it fills them."""
    frames = sample_frames(len(boxes_N4))
    columns, rows = _grid(size)
    x = (np.arange(columns) + 0.5) * size.width / columns
    y = (np.arange(rows) + 0.5) * size.height / rows
    x0, y0, x1, y1 = boxes_N4[frames].T[..., None]
    inside_x, inside_y = (x0 <= x) & (x < x1), (y0 <= y) & (y < y1)
    return Silhouette(tuple(frames), size, inside_y[:, :, None] & inside_x[:, None, :])


def _grid(size: FrameSize) -> tuple[int, int]:
    columns = min(size.width, _COLUMNS)
    return columns, max(1, round(size.height * columns / size.width))


class PastedSilhouette:
    """A figure's silhouette as it is pasted along a path of transforms."""

    def __init__(self, figure: Silhouette, path: Sequence[ScaleTranslate], size: FrameSize) -> None:
        scale, x, y = np.array([[path[n].scale, path[n].x, path[n].y] for n in figure.frames]).T
        frame, source_x, source_y = figure.points
        target_x = source_x * scale[frame] + x[frame]
        target_y = source_y * scale[frame] + y[frame]
        inside = (target_x >= 0) & (target_x < size.width)
        inside &= (target_y >= 0) & (target_y < size.height)
        self._frame, self._x, self._y = frame[inside], target_x[inside], target_y[inside]
        self._point_areas_F = scale**2 * figure.cell_width * figure.cell_height
        self._points_F = np.bincount(frame, minlength=len(figure.frames))

    def visible_shares(self) -> NDArray[np.float64]:
        """Return the share of the figure inside the frame, for each frame that it is in."""
        seen_F = np.bincount(self._frame, minlength=len(self._points_F))
        present = self._points_F > 0
        return np.asarray(seen_F[present] / self._points_F[present])

    def covered_share(self, other: Silhouette) -> float:
        """Return the share of another figure that is under this one.

        It is the mean over the frames that the other is in; 0 if it is in none.
        """
        rows, columns = other.cells_FHW.shape[1:]
        row = np.minimum((self._y / other.cell_height).astype(np.intp), rows - 1)
        column = np.minimum((self._x / other.cell_width).astype(np.intp), columns - 1)
        hits = other.cells_FHW[self._frame, row, column]
        hits_F = np.bincount(self._frame[hits], minlength=len(self._points_F))
        present = other.areas_F > 0
        if not present.any():
            return 0.0
        shares = (hits_F * self._point_areas_F)[present] / other.areas_F[present]
        return float(np.minimum(shares, 1.0).mean())
