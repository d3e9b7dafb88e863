"""Measure how fast a figure moves, in its own heights a second."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np

from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.media.images import RgbImage

STEP = 2
"""Frames from one image of a pair to the other, as of other measures of motion."""

_SHORT_SIDE = 160

Box = tuple[float, float, float, float]


def figure_motion(
    pairs: Sequence[tuple[RgbImage, RgbImage, Box]], rate: Fraction = CLIP_RATE
) -> float | None:
    """Return the mean optical flow (DIS) in a figure's boxes, in its heights a second.

    ``pairs``: two frames, STEP apart, and the figure's box in the first as shares of the frame.
    None without pairs.
    """
    speeds = [_speed(before, after, box, rate) for before, after, box in pairs]
    return round(float(np.mean(speeds)), 4) if speeds else None


def _speed(before_HWC: RgbImage, after_HWC: RgbImage, box: Box, rate: Fraction) -> float:
    height, width = before_HWC.shape[:2]
    scale = min(1.0, _SHORT_SIDE / min(height, width))
    size = (round(width * scale), round(height * scale))
    before, after = (
        cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        for frame in (before_HWC, after_HWC)
    )
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow_HW2 = flow.calc(before, after, None)
    x0, y0, x1, y1 = (round(s * e) for s, e in zip(box, (*size, *size), strict=True))
    inside = flow_HW2[max(0, y0) : max(y1, y0 + 1), max(0, x0) : max(x1, x0 + 1)]
    lengths = np.linalg.norm(inside.reshape(-1, 2), axis=1)
    seconds = STEP / float(rate)
    mean = lengths.mean()
    return float(mean / max(1, y1 - y0) / seconds)
