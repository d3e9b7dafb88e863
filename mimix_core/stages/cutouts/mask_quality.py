"""Measure the quality of a cutout's masks and decide whether it can be pasted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.engine.limit_text import format_beside_limit
from mimix_core.settings import CutoutSettings
from mimix_core.stages.cutouts.locate import Box, FrameBoxes
from mimix_core.stages.cutouts.mask_flicker import measure_flicker
from mimix_core.tables import Reason

# Share of the frame below which a mask counts as empty.
_MIN_MASK_AREA = 0.0005
# A side of the frame cuts the character off where at least this share of the side is mask ...
_BORDER_LENGTH = 0.02
# ... in at least this share of the frames.
_BORDER_FRAMES = 0.05
# Share of the mask from which a component counts as a piece.
_MIN_PIECE_SHARE = 0.01
# Pieces and holes are measured at this quantile of the frames: somebody may walk past.
_FRAME_QUANTILE = 0.9


@dataclass(frozen=True)
class MaskQuality:
    """Measurements of one cutout's masks (pixels with an alpha of at least one half).

    ``area``: share of the frame, one per frame. ``boxes``: x0, y0, x1, y1 of each frame's mask, all
    0 without a mask. ``presence``: share of frames with a mask. ``min_frame_iou``: the lowest IoU
    of two consecutive masks, 1 without consecutive masks. ``max_jump``: the largest displacement
    of the mask's centroid between consecutive frames, in diagonals of the larger of both boxes.
    ``max_flicker``: the largest area that joins or leaves the mask between consecutive frames
    without motion, as a share of its area. ``pieces``: number of components, the 90th percentile
    over frames. ``holes``: share of the outline's interior that is not mask, likewise.
    ``share_in_box``: share of all mask pixels inside the located boxes. ``box_coverage``: share of
    the located box covered by the mask's own box, the median over frames that have both.
    ``border``: sides of the frame that cut the character off. ``median_score``: the backend's
    confidence, the median over all frames.
    """

    area: list[float]
    boxes: list[list[int]]
    presence: float
    min_frame_iou: float
    max_jump: float
    max_flicker: float
    pieces: int
    holes: float
    share_in_box: float
    box_coverage: float
    border: list[str]
    median_score: float


def measure_mask_quality(
    frames_NHWC: NDArray[np.uint8],
    alpha_NHW: NDArray[np.uint8],
    boxes: FrameBoxes,
    scores: Sequence[float],
) -> MaskQuality:
    """Measure the masks of one cutout.

    ``frames_NHWC``: uint8 RGB. ``alpha_NHW``: uint8. ``boxes``: where the character was located.
    ``scores``: the backend's confidence, one per frame.
    """
    masks = alpha_NHW >= 128
    frames, height, width = masks.shape
    area = masks.mean(axis=(1, 2))
    mask_boxes = [_mask_box(mask) for mask in masks]
    present = [n for n in range(frames) if area[n] >= _MIN_MASK_AREA]
    consecutive = [(one, two) for one, two in pairwise(present) if two == one + 1]
    shapes = [_count_pieces(masks[n], mask_boxes[n]) for n in present]
    sides = {
        "left": masks[:, :, 0],
        "top": masks[:, 0, :],
        "right": masks[:, :, width - 1],
        "bottom": masks[:, height - 1, :],
    }
    return MaskQuality(
        area=[round(share, 6) for share in area.tolist()],
        boxes=mask_boxes,
        presence=len(present) / frames,
        min_frame_iou=min((_iou(masks[one], masks[two]) for one, two in consecutive), default=1.0),
        max_jump=_max_displacement(masks, mask_boxes, consecutive),
        max_flicker=measure_flicker(frames_NHWC, masks),
        pieces=int(_quantile([pieces for pieces, _ in shapes])),
        holes=_quantile([holes for _, holes in shapes]),
        share_in_box=_share_in_boxes(masks, boxes),
        box_coverage=_median_coverage(mask_boxes, boxes, present),
        border=[
            name
            for name, side in sides.items()
            if (side.mean(axis=1) >= _BORDER_LENGTH).mean() >= _BORDER_FRAMES
        ],
        median_score=float(np.median(scores)),
    )


def _mask_box(mask_HW: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if not rows.size:
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _iou(one_HW: NDArray[np.bool_], two_HW: NDArray[np.bool_]) -> float:
    return float((one_HW & two_HW).sum() / (one_HW | two_HW).sum())


def _max_displacement(
    masks: NDArray[np.bool_],
    boxes: Sequence[Sequence[int]],
    consecutive: Sequence[tuple[int, int]],
) -> float:
    largest = 0.0
    for one, two in consecutive:
        distance = np.hypot(
            *(_centroid(masks[two], boxes[two]) - _centroid(masks[one], boxes[one]))
        )
        diagonal = max(np.hypot(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (boxes[one], boxes[two]))
        largest = max(largest, float(distance / diagonal))
    return largest


def _centroid(mask_HW: NDArray[np.bool_], box: Sequence[int]) -> NDArray[np.float64]:
    x0, y0, x1, y1 = box
    rows, columns = np.nonzero(mask_HW[y0:y1, x0:x1])
    return np.array([x0 + columns.mean(), y0 + rows.mean()])


def _count_pieces(mask_HW: NDArray[np.bool_], box: Sequence[int]) -> tuple[int, float]:
    """Count the components of a mask, and measure the share of its interior that is holes."""
    x0, y0, x1, y1 = box
    # A border of background connects everything outside the mask.
    crop = np.pad(mask_HW[y0:y1, x0:x1].astype(np.uint8), 1)
    _, _, components, _ = cv2.connectedComponentsWithStats(crop, connectivity=8)
    total = int(crop.sum())
    pieces = int((components[1:, cv2.CC_STAT_AREA] >= _MIN_PIECE_SHARE * total).sum())
    _, labels, background, _ = cv2.connectedComponentsWithStats(1 - crop, connectivity=4)
    outside = int(labels[0, 0])
    holes = int(background[1:, cv2.CC_STAT_AREA].sum()) - int(background[outside, cv2.CC_STAT_AREA])
    return pieces, holes / (total + holes)


def _quantile(values: Sequence[float]) -> float:
    """The 90th percentile of the values, 0 without values."""
    return float(np.quantile(values, _FRAME_QUANTILE, method="lower")) if values else 0.0


def _share_in_boxes(masks: NDArray[np.bool_], boxes: FrameBoxes) -> float:
    inside = 0
    for mask, box in zip(masks, boxes, strict=True):
        if box is not None:
            x0, y0, x1, y1 = (max(round(side), 0) for side in box)
            inside += int(mask[y0:y1, x0:x1].sum())
    return inside / max(int(masks.sum()), 1)


def _median_coverage(
    mask_boxes: Sequence[Sequence[int]], boxes: FrameBoxes, present: Sequence[int]
) -> float:
    shares = [_coverage(mask_boxes[n], box) for n in present if (box := boxes[n]) is not None]
    return float(np.median(shares)) if shares else 0.0


def _coverage(mask_box: Sequence[int], located: Box) -> float:
    """Share of the located box covered by the mask's box."""
    x0, y0, x1, y1 = located
    wide = min(x1, mask_box[2]) - max(x0, mask_box[0])
    high = min(y1, mask_box[3]) - max(y0, mask_box[1])
    return max(wide, 0.0) * max(high, 0.0) / ((x1 - x0) * (y1 - y0))


def rejection_reason(quality: MaskQuality, settings: CutoutSettings) -> tuple[Reason, str] | None:
    """Return the first reason to reject this cutout, with the measurements; None if it passes."""
    if quality.presence < settings.min_presence:
        shown, wanted = format_beside_limit(quality.presence, settings.min_presence, ".0%")
        return Reason.MASK_ABSENT, f"in {shown} of the frames, at least {wanted} wanted"
    median = float(np.median(quality.area))
    limits = settings.min_area, settings.max_area
    if not limits[0] <= median <= limits[1]:
        shown, _ = format_beside_limit(median, limits[median > limits[1]], ".1%")
        low, high = (format_beside_limit(limit, limit, ".1%")[1] for limit in limits)
        return Reason.MASK_AREA, f"median area {shown} of the frame, {low} to {high} wanted"
    if quality.min_frame_iou < settings.min_frame_iou:
        shown, wanted = format_beside_limit(quality.min_frame_iou, settings.min_frame_iou)
        return Reason.MASK_UNSTABLE, (
            f"two neighbouring masks overlap by {shown}, at least {wanted} wanted"
        )
    if quality.max_jump > settings.max_jump:
        shown, wanted = format_beside_limit(quality.max_jump, settings.max_jump)
        return Reason.MASK_JUMPS, (
            f"its middle moves by {shown} of its size from one frame to the next, "
            f"at most {wanted} wanted"
        )
    if quality.max_flicker > settings.max_flicker:
        shown, wanted = format_beside_limit(quality.max_flicker, settings.max_flicker, ".0%")
        return Reason.MASK_FLICKERS, (
            f"{shown} of it joins or leaves it from one frame to the next, at most {wanted} wanted"
        )
    if quality.pieces > settings.max_pieces:
        return Reason.MASK_FRAGMENTED, (
            f"in {quality.pieces} pieces, at most {settings.max_pieces} wanted"
        )
    if quality.holes > settings.max_holes:
        shown, wanted = format_beside_limit(quality.holes, settings.max_holes, ".0%")
        return Reason.MASK_HOLES, f"{shown} of it are holes, at most {wanted} wanted"
    if quality.share_in_box < settings.min_share_in_box:
        shown, wanted = format_beside_limit(quality.share_in_box, settings.min_share_in_box, ".0%")
        return Reason.MASK_LEAVES_BOX, f"{shown} of the mask in the box, at least {wanted} wanted"
    if quality.box_coverage < settings.min_box_coverage:
        shown, wanted = format_beside_limit(quality.box_coverage, settings.min_box_coverage, ".0%")
        return Reason.MASK_MISSES_BOX, (
            f"reaches over {shown} of the box, at least {wanted} wanted"
        )
    if {"left", "right"} <= set(quality.border):
        return Reason.MASK_AT_BORDER, "cut off left and right: it fits in no other scene"
    if quality.median_score < settings.min_score:
        shown, wanted = format_beside_limit(quality.median_score, settings.min_score)
        return Reason.MASK_UNSURE, f"confidence {shown}, at least {wanted} wanted"
    return None
