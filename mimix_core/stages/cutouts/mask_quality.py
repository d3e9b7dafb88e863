"""Is a cutout fit to be pasted? Measures of its masks, and the reasons against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.settings import CutoutSettings
from mimix_core.stages.cutouts.locate import Box, Track
from mimix_core.stages.cutouts.mask_flicker import flicker
from mimix_core.tables import Reason

# A mask of less than this share of the frame is no character but specks.
_LEAST_AREA = 0.0005
# A side of the frame cuts the character off where this share of the side is mask ...
_BORDER_LENGTH = 0.02
# ... in this share of the frames.
_BORDER_FRAMES = 0.05
# A part of a mask counts as one from this share of the mask on.
_LEAST_PIECE = 0.01
# Of pieces and holes, the worst tenth of the frames is let pass: somebody walks past.
_MOST_FRAMES = 0.9


@dataclass(frozen=True)
class Quality:
    """What is measured on the masks (alpha of one half and more) of one cutout.

    ``area``: share of the frame, one a frame. ``boxes``: x0, y0, x1, y1 of each frame's mask, all
    0 where there is none. ``presence``: share of frames with a mask. ``steadiness``: the lowest
    IoU of two neighbouring masks, 1 when no two neighbours have one. ``jump``: the farthest way of
    the mask's centroid from one frame to the next, in diagonals of the larger of both boxes.
    ``flicker``: what joins or leaves the mask from one frame to the next without having moved, at
    most, in shares of its area.
    ``pieces``: separate parts, as many in nine tenths of the frames or fewer. ``holes``: share of
    the outline's inside that is not mask, likewise. ``inside``: share of all mask pixels that lie
    in the located boxes. ``covered``: share of the located box that the mask's own box covers, the
    median of all frames that have both. ``border``: sides of the frame that cut it off. ``sure``:
    the backend's confidence, the median of all frames.
    """

    area: list[float]
    boxes: list[list[int]]
    presence: float
    steadiness: float
    jump: float
    flicker: float
    pieces: int
    holes: float
    inside: float
    covered: float
    border: list[str]
    sure: float


def measure(
    frames_NHWC: NDArray[np.uint8],
    alpha_NHW: NDArray[np.uint8],
    track: Track,
    scores: Sequence[float],
) -> Quality:
    """Measure a cutout of RGB frames: its alphas, the boxes it was located by, the backend's
    scores."""
    masks = alpha_NHW >= 128
    frames, height, width = masks.shape
    area = masks.mean(axis=(1, 2))
    boxes = [_box(mask) for mask in masks]
    present = [n for n in range(frames) if area[n] >= _LEAST_AREA]
    neighbours = [(one, two) for one, two in pairwise(present) if two == one + 1]
    shapes = [_shape(masks[n], boxes[n]) for n in present]
    sides = {
        "left": masks[:, :, 0],
        "top": masks[:, 0, :],
        "right": masks[:, :, width - 1],
        "bottom": masks[:, height - 1, :],
    }
    return Quality(
        area=[round(share, 6) for share in area.tolist()],
        boxes=boxes,
        presence=len(present) / frames,
        steadiness=min((_iou(masks[one], masks[two]) for one, two in neighbours), default=1.0),
        jump=_jump(masks, boxes, neighbours),
        flicker=flicker(frames_NHWC, masks),
        pieces=int(_most([pieces for pieces, _ in shapes])),
        holes=_most([holes for _, holes in shapes]),
        inside=_inside(masks, track),
        covered=_covered(boxes, track, present),
        border=[
            name
            for name, line in sides.items()
            if (line.mean(axis=1) >= _BORDER_LENGTH).mean() >= _BORDER_FRAMES
        ],
        sure=float(np.median(scores)),
    )


def _box(mask_HW: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if not rows.size:
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _iou(one_HW: NDArray[np.bool_], two_HW: NDArray[np.bool_]) -> float:
    return float((one_HW & two_HW).sum() / (one_HW | two_HW).sum())


def _jump(
    masks: NDArray[np.bool_],
    boxes: Sequence[Sequence[int]],
    neighbours: Sequence[tuple[int, int]],
) -> float:
    farthest = 0.0
    for one, two in neighbours:
        way = np.hypot(*(_centroid(masks[two], boxes[two]) - _centroid(masks[one], boxes[one])))
        diagonal = max(np.hypot(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (boxes[one], boxes[two]))
        farthest = max(farthest, float(way / diagonal))
    return farthest


def _centroid(mask_HW: NDArray[np.bool_], box: Sequence[int]) -> NDArray[np.float64]:
    x0, y0, x1, y1 = box
    rows, columns = np.nonzero(mask_HW[y0:y1, x0:x1])
    return np.array([x0 + columns.mean(), y0 + rows.mean()])


def _shape(mask_HW: NDArray[np.bool_], box: Sequence[int]) -> tuple[int, float]:
    """Separate parts of a mask, and the share of its outline's inside that is not mask."""
    x0, y0, x1, y1 = box
    # A rim of background joins all that is outside.
    part = np.pad(mask_HW[y0:y1, x0:x1].astype(np.uint8), 1)
    _, _, parts, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
    total = int(part.sum())
    pieces = int((parts[1:, cv2.CC_STAT_AREA] >= _LEAST_PIECE * total).sum())
    _, labels, rest, _ = cv2.connectedComponentsWithStats(1 - part, connectivity=4)
    outside = int(labels[0, 0])
    holes = int(rest[1:, cv2.CC_STAT_AREA].sum()) - int(rest[outside, cv2.CC_STAT_AREA])
    return pieces, holes / (total + holes)


def _most(values: Sequence[float]) -> float:
    """What nine tenths of the values do not exceed, 0 for none."""
    return float(np.quantile(values, _MOST_FRAMES, method="lower")) if values else 0.0


def _inside(masks: NDArray[np.bool_], track: Track) -> float:
    inside = 0
    for mask, box in zip(masks, track, strict=True):
        if box is not None:
            x0, y0, x1, y1 = (max(round(side), 0) for side in box)
            inside += int(mask[y0:y1, x0:x1].sum())
    return inside / max(int(masks.sum()), 1)


def _covered(boxes: Sequence[Sequence[int]], track: Track, present: Sequence[int]) -> float:
    shares = [_overlap(boxes[n], located) for n in present if (located := track[n]) is not None]
    return float(np.median(shares)) if shares else 0.0


def _overlap(mask_box: Sequence[int], located: Box) -> float:
    """Share of the located box that the mask's box covers."""
    x0, y0, x1, y1 = located
    wide = min(x1, mask_box[2]) - max(x0, mask_box[0])
    high = min(y1, mask_box[3]) - max(y0, mask_box[1])
    return max(wide, 0.0) * max(high, 0.0) / ((x1 - x0) * (y1 - y0))


def objection(quality: Quality, settings: CutoutSettings) -> tuple[Reason, str] | None:
    """The first reason not to paste this cutout, with its figures; None when it is fit."""
    if quality.presence < settings.min_presence:
        return Reason.MASK_ABSENT, (
            f"in {quality.presence:.0%} of the frames, at least {settings.min_presence:.0%} wanted"
        )
    median = float(np.median(quality.area))
    if not settings.min_area <= median <= settings.max_area:
        return Reason.MASK_AREA, (
            f"median area {median:.1%} of the frame, "
            f"{settings.min_area:.1%} to {settings.max_area:.1%} wanted"
        )
    if quality.steadiness < settings.min_frame_iou:
        return Reason.MASK_UNSTABLE, (
            f"two neighbouring masks overlap by {quality.steadiness:.2f}, "
            f"at least {settings.min_frame_iou:.2f} wanted"
        )
    if quality.jump > settings.max_jump:
        return Reason.MASK_JUMPS, (
            f"its middle moves by {quality.jump:.2f} of its size from one frame to the next, "
            f"at most {settings.max_jump:.2f} wanted"
        )
    if quality.flicker > settings.max_flicker:
        return Reason.MASK_FLICKERS, (
            f"{quality.flicker:.0%} of it joins or leaves it from one frame to the next, "
            f"at most {settings.max_flicker:.0%} wanted"
        )
    if quality.pieces > settings.max_pieces:
        return Reason.MASK_FRAGMENTED, (
            f"in {quality.pieces} pieces, at most {settings.max_pieces} wanted"
        )
    if quality.holes > settings.max_holes:
        return Reason.MASK_HOLES, (
            f"{quality.holes:.0%} of it are holes, at most {settings.max_holes:.0%} wanted"
        )
    if quality.inside < settings.min_inside_box:
        return Reason.MASK_LEAVES_BOX, (
            f"{quality.inside:.0%} of the mask in the box, "
            f"at least {settings.min_inside_box:.0%} wanted"
        )
    if quality.covered < settings.min_box_covered:
        return Reason.MASK_MISSES_BOX, (
            f"reaches over {quality.covered:.0%} of the box, "
            f"at least {settings.min_box_covered:.0%} wanted"
        )
    if {"left", "right"} <= set(quality.border):
        return Reason.MASK_AT_BORDER, "cut off left and right: it fits in no other scene"
    if quality.sure < settings.min_score:
        return Reason.MASK_UNSURE, (
            f"confidence {quality.sure:.2f}, at least {settings.min_score:.2f} wanted"
        )
    return None
