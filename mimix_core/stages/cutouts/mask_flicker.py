"""Measure how much of a mask appears or disappears without motion, such as a joining cloud."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.cutouts import matting

# Pixels per frame at which optical flow is computed and masks are compared.
_WORK_PIXELS = 45_000
# Largest forward-backward flow error (pixels) of a pixel that counts as tracked.
_MAX_FLOW_ERROR = 1.0
# Outlines jitter: a change counts where a disc of this radius fits into it (share of the mask's
# size, the square root of its area).
_JITTER_RADIUS = 0.012


def measure_flicker(frames_NHWC: NDArray[np.uint8], masks_NHW: NDArray[np.bool_]) -> float:
    """Measure the largest area that joins or leaves the mask between two frames.

    The result is a share of the mask's median area, 0 without masks. Pixels are tracked by optical
    flow, so motion does not count; neither does a pixel that cannot be tracked (occluded or new).
    """
    count, height, width = masks_NHW.shape
    scale = min(1.0, (_WORK_PIXELS / (height * width)) ** 0.5)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames_NHWC])
    masks = [
        cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        for mask in masks_NHW
    ]
    areas = [float((mask >= 0.5).sum()) for mask in masks]
    area = float(np.median([value for value in areas if value] or [0.0]))
    if not area:
        return 0.0
    radius = max(1, round(_JITTER_RADIUS * area**0.5))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    flow_maps = matting.neighbor_flow_maps(small)
    grid = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), axis=-1)
    largest = 0.0
    for before, now in pairwise(range(count)):
        if not (areas[before] and areas[now]):
            continue
        backward, forward = flow_maps[now][before], flow_maps[before][now]
        border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": -9}
        returned = cv2.remap(forward, backward, None, cv2.INTER_LINEAR, **border)
        tracked = np.hypot(*np.moveaxis(returned - grid, -1, 0)) < _MAX_FLOW_ERROR
        warped = cv2.remap(masks[before], backward, None, cv2.INTER_LINEAR)
        changed = ((warped >= 0.5) != (masks[now] >= 0.5)) & tracked
        opened = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_OPEN, disc)
        largest = max(largest, float(opened.sum()) / area)
    return largest
