"""Close the holes of a mask that are part of the character: an apron, a pale shirt, an eye.

A hole is either a gap through which the old background shows (between arm and body), or a part of
the character that the segmenter took for background. Colors decide: what borders on the hole inside
the character, and what is around the character. A hole is followed over the frames, and one
decision is made for all of them, since a hole that opens and closes would flicker.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]

# Width in pixels of the rings that are compared with a hole.
_RING = 9
# Distance in Lab (8 bit) up to which two colors are alike.
_ALIKE = 22.0
# Share of the ring inside the character that must look like the hole.
_MIN_ALIKE_RING = 0.3
# Smaller holes (share of the mask) are pinholes, closed in any case: no gap between limbs.
_ALWAYS_CLOSED = 0.002


@dataclass
class _Hole:
    """A hole over the frames. ``closing_area``: its area in frames that speak for closing it."""

    masks: list[tuple[int, NDArray[np.bool_]]] = field(default_factory=list)
    area: int = 0
    closing_area: int = 0


def close_holes(frames_NHWC: Images, alpha_NHW: Images) -> tuple[Images, float]:
    """Return the alphas with the character's own holes closed, and the largest closed share.

    ``frames_NHWC``: uint8 RGB. The share is of the mask with that hole, in the frame where it is
    largest: a large one says that the mask is wrong, and closing it is a guess.
    """
    holes: list[_Hole] = []
    open_before: list[tuple[NDArray[np.bool_], _Hole]] = []
    solid_areas: list[int] = []
    result = alpha_NHW
    for n, (frame_HWC, alpha_HW) in enumerate(zip(frames_NHWC, alpha_NHW, strict=True)):
        mask_HW = (alpha_HW >= 128).astype(np.uint8)
        found, pinholes_HW, area = _find_holes(mask_HW)
        solid_areas.append(area)
        if pinholes_HW.any():
            result = alpha_NHW.copy() if result is alpha_NHW else result
            _close(result[n], alpha_HW, pinholes_HW)
        lab_HWC = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2LAB) if found else frame_HWC
        current: list[tuple[NDArray[np.bool_], _Hole]] = []
        for hole_HW in found:
            same = next((hole for before, hole in open_before if (before & hole_HW).any()), None)
            if same is None:
                same = _Hole()
                holes.append(same)
            area = int(hole_HW.sum())
            same.masks.append((n, hole_HW))
            same.area += area
            if _belongs_to_character(lab_HWC, mask_HW, hole_HW):
                same.closing_area += area
            current.append((hole_HW, same))
        open_before = current
    closed_share = 0.0
    for hole in holes:
        if 2 * hole.closing_area <= hole.area:
            continue
        result = alpha_NHW.copy() if result is alpha_NHW else result
        for n, hole_HW in hole.masks:
            _close(result[n], alpha_NHW[n], hole_HW)
            closed_share = max(closed_share, int(hole_HW.sum()) / solid_areas[n])
    return result, closed_share


def _close(result_HW: Images, alpha_HW: Images, hole_HW: NDArray[np.bool_]) -> None:
    """Make a hole solid in ``result_HW``, with its soft rim, which lies in the mask."""
    rim_HW = cv2.dilate(hole_HW.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    result_HW[rim_HW & ((alpha_HW >= 128) | hole_HW)] = 255


def _find_holes(mask_HW: Images) -> tuple[list[NDArray[np.bool_]], NDArray[np.bool_], int]:
    """Return the holes, all pinholes in one mask, and the area of the mask with both."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask_HW, connectivity=4)
    # What touches a side of the frame is outside.
    outside = set(np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])))
    inside = [n for n in range(1, count) if n not in outside]
    areas = stats[:, cv2.CC_STAT_AREA]
    # The label of the mask itself is 0.
    area = int(mask_HW.sum()) + int(areas[inside].sum())
    holes = [n for n in inside if areas[n] >= _ALWAYS_CLOSED * area]
    pinholes = np.isin(labels, [n for n in inside if n not in holes])
    return [labels == n for n in holes], pinholes, area


def _belongs_to_character(lab_HWC: Images, mask_HW: Images, hole_HW: NDArray[np.bool_]) -> bool:
    """Whether a hole looks like the character next to it, or unlike the background around."""
    kernel = np.ones((2 * _RING + 1, 2 * _RING + 1), np.uint8)
    near_HW = cv2.dilate(hole_HW.astype(np.uint8), kernel) > 0
    color = np.median(lab_HWC[hole_HW], axis=0)
    own = lab_HWC[near_HW & (cv2.erode(mask_HW, np.ones((3, 3), np.uint8)) > 0)]
    if len(own) and (_distance(own, color) < _ALIKE).mean() >= _MIN_ALIKE_RING:
        return True
    around_HW = (cv2.dilate(mask_HW, kernel) > 0) & (mask_HW == 0) & ~near_HW
    around = lab_HWC[around_HW]
    return len(around) > 0 and not (_distance(around, color) < _ALIKE).any()


def _distance(colors: Images, color: NDArray[np.float64]) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.linalg.norm(colors.astype(np.float64) - color, axis=-1)
    return distance
