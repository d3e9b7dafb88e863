"""Is a cutout fit to be pasted? Measures of its masks, and the reasons against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimix_core.cutouts.locate import Track
from mimix_core.settings import CutoutSettings
from mimix_core.tables import Reason

# A mask of less than this share of the frame is no character but specks.
_LEAST_AREA = 0.0005
# A side of the frame cuts the character off where this share of the side is mask ...
_BORDER_LENGTH = 0.02
# ... in this share of the frames.
_BORDER_FRAMES = 0.05


@dataclass(frozen=True)
class Quality:
    """What is measured on the masks (alpha of one half and more) of one cutout.

    ``area``: share of the frame, one a frame. ``boxes``: x0, y0, x1, y1 of each frame's mask, all
    0 where there is none. ``presence``: share of frames with a mask. ``steadiness``: the lowest
    IoU of two neighbouring masks, 1 when no two neighbours have one. ``inside``: share of all mask
    pixels that lie in the located boxes. ``border``: sides of the frame that cut it off.
    """

    area: list[float]
    boxes: list[list[int]]
    presence: float
    steadiness: float
    inside: float
    border: list[str]


def measure(alpha_NHW: NDArray[np.uint8], track: Track) -> Quality:
    """Measure the alphas of a cutout located by ``track``."""
    masks = alpha_NHW >= 128
    frames, height, width = masks.shape
    area = masks.mean(axis=(1, 2))
    present = area >= _LEAST_AREA
    overlaps = [
        float((one & two).sum() / (one | two).sum())
        for one, two, both in zip(masks, masks[1:], present[1:] & present[:-1], strict=False)
        if both
    ]
    inside = 0
    for mask, box in zip(masks, track, strict=True):
        if box is not None:
            x0, y0, x1, y1 = (round(side) for side in box)
            inside += int(mask[y0:y1, x0:x1].sum())
    sides = {
        "left": masks[:, :, 0],
        "top": masks[:, 0, :],
        "right": masks[:, :, width - 1],
        "bottom": masks[:, height - 1, :],
    }
    return Quality(
        area=[round(share, 6) for share in area.tolist()],
        boxes=[_box(mask) for mask in masks],
        presence=float(present.sum() / frames),
        steadiness=min(overlaps, default=1.0),
        inside=inside / max(int(masks.sum()), 1),
        border=[
            name
            for name, line in sides.items()
            if (line.mean(axis=1) >= _BORDER_LENGTH).mean() >= _BORDER_FRAMES
        ],
    )


def _box(mask_HW: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if not rows.size:
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


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
    if quality.inside < settings.min_inside_box:
        return Reason.MASK_LEAVES_BOX, (
            f"{quality.inside:.0%} of the mask in the box, "
            f"at least {settings.min_inside_box:.0%} wanted"
        )
    if {"left", "right"} <= set(quality.border):
        return Reason.MASK_AT_BORDER, "cut off left and right: it fits in no other scene"
    return None
