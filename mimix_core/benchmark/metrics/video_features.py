"""A decoded video, and what several metrics derive from it, computed once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.domain.timeline import CLIP_RATE

if TYPE_CHECKING:
    from mimix_core.benchmark.vbench.video_reader import Video

ANALYSIS_SHORT_SIDE = 240
"""Flow is computed at this height (or width); smaller videos at their own."""

MOTION_RATE = 8
"""Frames a second that motion is looked at, as VBench does."""


class Unmeasurable(Exception):
    """A metric has no value for this video."""


@dataclass(frozen=True)
class Footage:
    """All frames_THWC of a 16 frames/s video, uint8 RGB; the prompt it was made from, if any."""

    frames_THWC: NDArray[np.uint8]
    prompt: str = ""
    path: Path = Path()

    def spread(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Up to ``count`` different frames, each the middle of an equal part of the video."""
        total = len(self.frames_THWC)
        for index in sorted({(2 * part + 1) * total // (2 * count) for part in range(count)}):
            yield self.frames_THWC[index]

    @property
    def interval(self) -> int:
        """Frames from one looked-at frame to the next."""
        return max(1, round(CLIP_RATE / MOTION_RATE))

    @cached_property
    def vbench(self) -> Video:
        """The video at ``path`` as VBench's readers give it, whose colours differ in rounding.

        Raises UnreadableVideo.
        """
        from mimix_core.benchmark.vbench.video_reader import read

        return read(self.path, self.prompt)

    @cached_property
    def grey_THW(self) -> NDArray[np.uint8]:
        """All frames, grey, at analysis size."""
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
        """DIS optical flow (x, y pixels at analysis size) from each looked-at frame to the next.

        Raises Unmeasurable when there are no two frames to compare.
        """
        looked_at = self.grey_THW[:: self.interval]
        if len(looked_at) < 2:
            raise Unmeasurable(f"{len(self.frames_THWC)} frames are too few to see motion")
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        return np.stack([flow.calc(before, after, None) for before, after in pairwise(looked_at)])
