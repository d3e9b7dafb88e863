"""How much of a mask comes and goes without having moved: a cloud that joins a white figure."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.cutouts import matting

# Pixels of the frames that motion is looked for in; the mask is compared at the same size.
_WORK_PIXELS = 45_000
# A pixel whose way there and back ends this near (pixels) has been followed.
_FOLLOWED = 1.0
# Outlines tremble: a change counts where a disc fits into it, of this radius in shares of the
# mask's size (the root of its area).
_TREMBLE = 0.012


def flicker(frames_NHWC: NDArray[np.uint8], masks_NHW: NDArray[np.bool_]) -> float:
    """The largest area that joins or leaves the mask from one frame to the next, as a share of
    the mask's median area.

    Every pixel is followed by optical flow, so what moves changes nothing; a pixel that cannot be
    followed (it is covered, or new) does not count. 0 without masks.
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
    radius = max(1, round(_TREMBLE * area**0.5))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    there = matting.correspondences(small)
    grid = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), axis=-1)
    worst = 0.0
    for before, now in pairwise(range(count)):
        if not (areas[before] and areas[now]):
            continue
        way, back = there[now][before], there[before][now]
        outside = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": -9}
        returned = cv2.remap(back, way, None, cv2.INTER_LINEAR, **outside)
        followed = np.hypot(*np.moveaxis(returned - grid, -1, 0)) < _FOLLOWED
        was = cv2.remap(masks[before], way, None, cv2.INTER_LINEAR)
        changed = ((was >= 0.5) != (masks[now] >= 0.5)) & followed
        whole = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_OPEN, disc)
        worst = max(worst, float(whole.sum()) / area)
    return worst
