"""Find where a background looks like the ground under the feet of its characters.

No network is needed: the strip at a character's feet shows what the scene's ground looks like.
Cells of the frame are compared with those of the strip by brightness, color and texture, so that
water, sky and walls beside a meadow differ from it. Without visible feet nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.composites.scale_translate import Boxes, FrameSize, non_empty_mask
from mimix_core.stages.composites.silhouettes import sample_frames
from mimix_core.stages.composites.yuv_frames import YuvPlanes

_FRAMES = 5
"""Number of frames that are looked at, evenly spaced over the clip."""

_COLUMNS = 104
"""Number of cells in a row of the frame; narrower frames have a cell for each two pixels."""

_TOLERANCES = np.array([28.0, 9.0, 9.0, 1.0], np.float32)
"""Largest differences of cells that look alike: mean luma, blue and red difference (0 to 255), and
binary logarithm of the contrast within a cell."""

_CONTRAST_FLOOR = 3.0
"""Standard deviation of luma that counts as none: grain and compression."""

_MIN_ALIKE = 0.06
"""Share of the strip's cells that a cell must look like: what only borders on the strip is not the
ground."""

_MAX_STRIP_CELLS = 160
_MIN_STRIP_CELLS = 4

_STRIP = (-0.03, 0.09)
"""Top and bottom of the strip below a character's feet, in shares of its height."""

_FEET = (-0.04, 0.06)
"""Top and bottom of the area under a pasted figure's feet, in shares of its height."""

_FEET_WIDTH = 0.7
"""Width of that area, as a share of the figure's."""

_BESIDE, _MAX_BESIDE = 0.25, 0.8
"""Beside a character's upper half, up to this share of its width, at most this share of the cells
may look like the strip under its feet. Where more do it flies or swims."""

_PLAIN = 0.95
"""Where this share of a scene looks like the strip it is a plain backdrop, and all of it ground."""

_SAME_DEPTH = 0.1
"""Feet within this share of the frame's height of the lowest ones are at the same depth."""

_MIN_STANDING = 0.9
"""Share of the frames in which a character's feet must be in sight."""


def select_standing(character_boxes: Sequence[Boxes], size: FrameSize) -> list[Boxes]:
    """Select the characters that the lower edge of the frame does not cut off."""
    return [
        boxes_N4
        for boxes_N4 in character_boxes
        if (boxes_N4[non_empty_mask(boxes_N4)][:, 3] < size.height - 1).mean() > _MIN_STANDING
    ]


@dataclass(frozen=True)
class GroundMap:
    """Where sampled ``frames`` of a scene look like its ground.

    ``alike``, ``known``: bits of the cells [frames, rows, columns]; unknown is what is hidden by
    the scene's characters.
    """

    frames: tuple[int, ...]
    size: FrameSize
    shape: tuple[int, int, int]
    alike: NDArray[np.uint8]
    known: NDArray[np.uint8]

    def share_under(self, boxes_N4: Boxes) -> float | None:
        """Return the share of the area under a figure's feet that looks like the ground.

        ``boxes_N4``: of the figure in each frame of the clip; the lower edges are its feet. It is
        the smallest share of all sampled frames; None when the feet are never in sight.
        """
        count = int(np.prod(self.shape))
        alike_FHW = np.unpackbits(self.alike, count=count).reshape(self.shape).astype(bool)
        known_FHW = np.unpackbits(self.known, count=count).reshape(self.shape).astype(bool)
        present = non_empty_mask(boxes_N4)
        shares = []
        for n, frame in enumerate(self.frames):
            if not present[frame]:
                continue
            x0, _, x1, y1 = boxes_N4[frame]
            height = y1 - boxes_N4[frame, 1]
            margin = (1 - _FEET_WIDTH) / 2 * (x1 - x0)
            below = _cells_in(
                (x0 + margin, y1 + _FEET[0] * height, x1 - margin, y1 + _FEET[1] * height),
                self.size,
                (self.shape[1], self.shape[2]),
            )
            seen = known_FHW[n][below]
            if y1 < self.size.height and seen.any():
                shares.append(float(alike_FHW[n][below][seen].mean()))
        return min(shares) if shares else None


def map_ground(
    frames: Sequence[YuvPlanes], character_boxes: Sequence[Boxes], size: FrameSize
) -> GroundMap | None:
    """Compare a clip's cells with the ground under its characters' feet.

    ``character_boxes``: of the clip's characters, each with a box for each frame. Only those count
    whose feet are in sight, and of these the ones closest to the camera, in front of which a figure
    is pasted: a bird in the air shows no ground. None when no strip of ground is seen.
    """
    closest = _closest(select_standing(character_boxes, size), size)
    if not closest:
        return None
    sampled = sample_frames(len(frames), _FRAMES)
    columns = max(1, min(_COLUMNS, size.width // 2))
    grid = max(1, round(size.height * columns / size.width)), columns
    cells_FHWC = np.stack([_features(frames[frame], grid) for frame in sampled])
    known_FHW = np.ones(cells_FHWC.shape[:3], bool)
    for boxes_N4 in character_boxes:
        known_FHW &= ~_mark(boxes_N4[sampled], size, grid, whole=True)
    alike_FHW = np.zeros_like(known_FHW)
    for boxes_N4 in closest:
        alike_FHW |= _look_like_strip(cells_FHWC, known_FHW, boxes_N4[sampled], size)
    if not alike_FHW.any():
        return None
    return GroundMap(
        tuple(sampled),
        size,
        (len(sampled), *grid),
        np.packbits(alike_FHW),
        np.packbits(known_FHW),
    )


def _look_like_strip(
    cells_FHWC: NDArray[np.float32],
    known_FHW: NDArray[np.bool_],
    boxes_F4: Boxes,
    size: FrameSize,
) -> NDArray[np.bool_]:
    """Mark the cells that look like the strip under a character's feet.

    None do when what is beside its upper half looks like the strip too: then it flies or swims,
    unless it is before a plain backdrop.
    """
    grid = cells_FHWC.shape[1:3]
    strip_FHW = _mark(_strips(boxes_F4, size.height / grid[0]), size, grid) & known_FHW
    strip_MC = cells_FHWC[strip_FHW]
    if len(strip_MC) < _MIN_STRIP_CELLS:
        return np.zeros_like(known_FHW)
    alike_FHW = _look_alike(cells_FHWC, strip_MC[:: -(-len(strip_MC) // _MAX_STRIP_CELLS)])
    x0, y0, x1, y1 = boxes_F4.T
    margin = _BESIDE * (x1 - x0)
    around_F4 = np.stack([x0 - margin, y0, x1 + margin, (y0 + y1) / 2], axis=1)
    beside_FHW = _mark(around_F4, size, grid) & known_FHW
    is_plain = alike_FHW[known_FHW].mean() >= _PLAIN
    if not is_plain and beside_FHW.any() and alike_FHW[beside_FHW].mean() > _MAX_BESIDE:
        return np.zeros_like(known_FHW)
    return alike_FHW


def _strips(boxes_F4: Boxes, cell_height: float) -> Boxes:
    """Return the strip at the feet of each box, at least two cells deep; empty where the box is."""
    x0, y0, x1, y1 = boxes_F4.T
    depth = np.where(y1 > y0, np.maximum(_STRIP[1] * (y1 - y0), 2 * cell_height), 0)
    return np.stack([x0, y1 + _STRIP[0] * (y1 - y0), x1, y1 + depth], axis=1)


def _mark(
    boxes_F4: Boxes, size: FrameSize, grid: tuple[int, int], *, whole: bool = False
) -> NDArray[np.bool_]:
    """Mark the cells in the box of each frame; with ``whole`` all cells that it touches."""
    marked = np.zeros((len(boxes_F4), *grid), bool)
    for n, box in enumerate(boxes_F4):
        marked[n][_cells_in(box, size, grid, whole=whole)] = True
    return marked


def _closest(standing: Sequence[Boxes], size: FrameSize) -> list[Boxes]:
    feet = [float(np.median(boxes_N4[non_empty_mask(boxes_N4)][:, 3])) for boxes_N4 in standing]
    return [
        boxes_N4
        for boxes_N4, y in zip(standing, feet, strict=True)
        if y >= max(feet) - _SAME_DEPTH * size.height
    ]


def _features(planes: YuvPlanes, grid: tuple[int, int]) -> NDArray[np.float32]:
    """Return luma, blue and red difference, and logarithm of contrast of cells, in tolerances."""

    def mean(plane_HW: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.resize(plane_HW, grid[::-1], interpolation=cv2.INTER_AREA))

    y_HW = planes.y_HW.astype(np.float32)
    luma = mean(y_HW)
    deviation = np.sqrt(np.maximum(mean(y_HW * y_HW) - luma * luma, 0))
    blue, red = (mean(plane.astype(np.float32)) for plane in (planes.u_HW, planes.v_HW))
    contrast = np.log2(deviation + _CONTRAST_FLOOR)
    return np.asarray(np.stack([luma, blue, red, contrast], axis=2) / _TOLERANCES)


def _look_alike(
    cells_FHWC: NDArray[np.float32], strip_MC: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Mark the cells that enough of the strip's cells look like."""
    counts = np.zeros(cells_FHWC.shape[:3], np.uint8)
    luma, *others = np.ascontiguousarray(np.moveaxis(cells_FHWC, 3, 0))
    for cell_C in strip_MC:
        alike = np.abs(luma - cell_C[0]) <= 1
        for plane, value in zip(others, cell_C[1:], strict=True):
            alike &= np.abs(plane - value) <= 1
        counts += alike
    return np.asarray(counts >= max(1.0, _MIN_ALIKE * len(strip_MC)))


def _cells_in(
    box: Sequence[float] | Boxes, size: FrameSize, grid: tuple[int, int], *, whole: bool = False
) -> tuple[slice, slice]:
    """Return the cells whose centers are in a box; with ``whole`` all cells that it touches."""
    x0, y0, x1, y1 = box
    sides = []
    for begin, end, length, count in (
        (y0, y1, size.height, grid[0]),
        (x0, x1, size.width, grid[1]),
    ):
        first, last = begin * count / length, end * count / length
        if whole:
            low, high = np.floor(first), np.ceil(last)
        else:
            low, high = np.ceil(first - 0.5), np.ceil(last - 0.5)
        if high == low and end > begin:
            high += 1
        sides.append(slice(int(np.clip(low, 0, count)), int(np.clip(high, 0, count))))
    return sides[0], sides[1]
