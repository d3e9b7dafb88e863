"""Features of a decoded video that several metrics share, each computed once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.domain.timeline import CLIP_RATE

if TYPE_CHECKING:
    from mimix_core.benchmark.vbench.video_reader import DecodedVideo

ANALYSIS_SHORT_SIDE = 240
"""Short side in pixels at which flow is computed; smaller videos are not enlarged."""

MOTION_RATE = 8
"""Frames sampled per second to measure motion, as in VBench."""


@dataclass(frozen=True)
class VideoFeatures:
    """All frames_THWC of a video, uint8 RGB; the prompt it was made from, if any.

    ``rate``: frames per second.
    """

    frames_THWC: NDArray[np.uint8]
    prompt: str = ""
    path: Path = Path()
    rate: Fraction = CLIP_RATE

    def sample_frames(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield up to ``count`` different frames, each the middle of an equal part of the video."""
        total = len(self.frames_THWC)
        for index in sorted({(2 * part + 1) * total // (2 * count) for part in range(count)}):
            yield self.frames_THWC[index]

    @property
    def frame_interval(self) -> int:
        """Number of frames from one frame sampled for motion to the next."""
        return max(1, round(self.rate / MOTION_RATE))

    @cached_property
    def vbench_video(self) -> DecodedVideo:
        """The video at ``path`` decoded as VBench decodes it; its colors are rounded differently.

        Raises UnreadableVideo.
        """
        from mimix_core.benchmark.vbench.video_reader import read_video

        return read_video(self.path, self.prompt)

    @cached_property
    def gray_THW(self) -> NDArray[np.uint8]:
        """All frames in grayscale at analysis size."""
        height, width = self.frames_THWC.shape[1:3]
        scale = min(1.0, ANALYSIS_SHORT_SIDE / min(height, width))
        size = (round(width * scale), round(height * scale))
        return np.stack(
            [
                cv2.cvtColor(
                    cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
                )
                for frame in self.frames_THWC
            ]
        )

    @cached_property
    def flows_NHWC(self) -> NDArray[np.float32]:
        """DIS optical flow (x, y pixels at analysis size) from each sampled frame to the next.

        Raises Unmeasurable for fewer than two sampled frames.
        """
        sampled = self.gray_THW[:: self.frame_interval]
        if len(sampled) < 2:
            raise Unmeasurable(f"{len(self.frames_THWC)} frames are too few to measure motion")
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        return np.stack([flow.calc(before, after, None) for before, after in pairwise(sampled)])
