"""Motion metrics on DIS optical flow, which needs no weights.

They follow the rules of VBench's dimensions with the same names, but with another flow estimator
and another interpolator, so their values differ from VBench's: hence the backend in their names.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.metrics.video_features import VideoFeatures

_TOP_SHARE = 0.05


def build_dynamic_degree() -> Callable[[VideoFeatures], float]:
    """Build ``dynamic_degree/dis-flow``: 1 for a dynamic video, else 0.

    VBench's rule: a step counts as moving if the mean of its 5 % longest flow vectors exceeds
    6 / 256 of the short side; a video is dynamic if 4 / 16 of its sampled frames move.
    """

    def measure(features: VideoFeatures) -> float:
        flows_NHWC = features.flows_NHWC
        threshold = 6.0 * min(flows_NHWC.shape[1:3]) / 256
        moving = sum(top_flow_magnitude(flow) > threshold for flow in flows_NHWC)
        return float(moving >= round(4 * (len(flows_NHWC) + 1) / 16))

    return measure


def top_flow_magnitude(flow_HWC: NDArray[np.float32]) -> float:
    """Return the mean length, in pixels, of the 5 % longest vectors of a flow field."""
    lengths = np.sort(np.linalg.norm(flow_HWC.reshape(-1, 2), axis=1))
    return float(lengths[-max(1, int(len(lengths) * _TOP_SHARE)) :].mean())


def build_motion_smoothness() -> Callable[[VideoFeatures], float]:
    """Build ``motion_smoothness/frame-interpolation-residual``.

    Every second frame is interpolated from its neighbors along their flow; the value is
    (255 - mean absolute difference from the true frame) / 255: 1 is perfectly smooth.
    """

    def measure(features: VideoFeatures) -> float:
        gray, flows = features.gray_THW, features.flows_NHWC
        if features.frame_interval != 2:
            raise Unmeasurable(f"the frame interval is {features.frame_interval}, not 2")
        residuals = [
            np.abs(
                interpolate_middle(gray[2 * n], gray[2 * n + 2], flow)
                - gray[2 * n + 1].astype(np.float32)
            ).mean()
            for n, flow in enumerate(flows)
        ]
        return float((255.0 - np.mean(residuals)) / 255.0)

    return measure


def interpolate_middle(
    before_HW: NDArray[np.uint8], after_HW: NDArray[np.uint8], flow_HWC: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Interpolate the frame halfway between two, float32 in 0..255.

    Both frames are warped along half the flow and averaged.
    """
    height, width = before_HW.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    half_flow = flow_HWC / 2

    def warp(image: NDArray[np.uint8], sign: int) -> NDArray[np.float32]:
        return np.asarray(
            cv2.remap(
                image.astype(np.float32),
                x + sign * half_flow[..., 0],
                y + sign * half_flow[..., 1],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        )

    return (warp(before_HW, -1) + warp(after_HW, 1)) / np.float32(2)
