"""Motion metrics on DIS optical flow, which needs no weights.

They follow the rules of VBench's dimensions of the same names with another flow and another
interpolator, so their values are not VBench's: hence the backend in their names.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.metrics.video_features import Footage, Unmeasurable

_TOP_SHARE = 0.05


def prepare_dynamic_degree() -> Callable[[Footage], float]:
    """``dynamic_degree/dis-flow``: 1 if the video moves, else 0 (averaged over videos: a share).

    VBench's rule: a step moves if the mean of its 5 % longest flow vectors is longer than
    6 / 256 of the short side; a video moves if 4 / 16 of its looked-at frames do.
    """

    def measure(footage: Footage) -> float:
        flows_NHWC = footage.flows_NHWC
        limit = 6.0 * min(flows_NHWC.shape[1:3]) / 256
        moving = sum(longest(flow) > limit for flow in flows_NHWC)
        return float(moving >= round(4 * (len(flows_NHWC) + 1) / 16))

    return measure


def longest(flow_HWC: NDArray[np.float32]) -> float:
    """Mean length, in pixels, of the 5 % longest vectors of a flow."""
    lengths = np.sort(np.linalg.norm(flow_HWC.reshape(-1, 2), axis=1))
    return float(lengths[-max(1, int(len(lengths) * _TOP_SHARE)) :].mean())


def prepare_motion_smoothness() -> Callable[[Footage], float]:
    """``motion_smoothness/frame-interpolation-residual``: how well frames lie between neighbours.

    Every second frame is left out and made again from its neighbours along their flow; the value
    is (255 - mean absolute difference to the true frame) / 255: 1 is perfectly smooth.
    """

    def measure(footage: Footage) -> float:
        grey, flows, interval = footage.grey_THW, footage.flows_NHWC, footage.interval
        if interval != 2:
            raise Unmeasurable(f"frames are looked at in steps of {interval}, not 2")
        residuals = [
            np.abs(
                between(grey[2 * n], grey[2 * n + 2], flow) - grey[2 * n + 1].astype(np.float32)
            ).mean()
            for n, flow in enumerate(flows)
        ]
        return float((255.0 - np.mean(residuals)) / 255.0)

    return measure


def between(
    before_HW: NDArray[np.uint8], after_HW: NDArray[np.uint8], flow_HWC: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The picture half way between two, float32 in 0..255: both moved along half the flow."""
    height, width = before_HW.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    half = flow_HWC / 2

    def moved(image: NDArray[np.uint8], sign: int) -> NDArray[np.float32]:
        return np.asarray(
            cv2.remap(
                image.astype(np.float32),
                x + sign * half[..., 0],
                y + sign * half[..., 1],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        )

    return (moved(before_HW, -1) + moved(after_HW, 1)) / np.float32(2)
