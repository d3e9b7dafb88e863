"""Join the segments before and after a flash: lightning, a camera's flash, an explosion.

A flash looks like a cut to white and back, or like a cut to white and a fade back. What tells them
apart is that the same shot goes on afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mimix_core.stages.scenes.frame_distances import (
    THUMBNAIL_VALUES,
    Floats,
    FrameDistances,
    Segment,
)
from mimix_core.stages.scenes.frame_downscale import THUMBNAIL_SIZE

_MAX_FLASH_FRAMES = 16
"""Maximum length of a flash with its decay, frames: longer ones are fades through white."""

_MAX_SEARCH_FRAMES = 64
"""Maximum number of frames between the segments that are joined."""

_MIN_BRIGHTENING = 12
"""Levels of mean luma by which the brightest frame of a flash exceeds the frames around it."""

_MAX_DECORRELATION = 0.2
"""Maximum difference of the frames before and after a flash; see ``decorrelation``. Within a shot,
unless it moves fast, it is far smaller; between two shots it is about 1."""

_MAX_MOTION, _MAX_MOVED_DECORRELATION = 2.0, 0.6
"""The same for a shot that moves: a multiple of what it moved before the flash, and its limit."""

_MAX_DIFFERENCE = 144.0
"""Maximum mean squared difference of these frames, levels^2 per value: the light is as before."""


def join_flashes(distances: FrameDistances, segments: Sequence[Segment]) -> list[Segment]:
    """Join segments of one shot that are separated only by a flash; its frames are of the shot."""
    luma = _mean_luma(distances)
    joined: list[Segment] = []
    index = 0
    while index < len(segments):
        segment = segments[index]
        if joined and not joined[-1].transition:
            last = _end_of_flash(distances, luma, segments, index)
            if last is not None:
                joined[-1] = Segment(joined[-1].start, segments[last].end, False)
                index = last + 1
                continue
        joined.append(segment)
        index += 1
    return joined


def _end_of_flash(
    distances: FrameDistances, luma: Floats, segments: Sequence[Segment], first: int
) -> int | None:
    """Return the index of the segment in which the shot before segment ``first`` goes on."""
    before = segments[first].start - 1
    for last in range(first + 1, len(segments)):
        after = segments[last].start
        if after - before > _MAX_SEARCH_FRAMES:
            return None
        if segments[last].transition:
            continue
        # A fade back is a transition whose ends are found with a margin: the flash is shorter.
        rise = luma[before : after + 1] - max(luma[before], luma[after])
        bright = before + np.flatnonzero(rise >= _MIN_BRIGHTENING / 2)
        if (
            len(bright)
            and rise.max() >= _MIN_BRIGHTENING
            and bright[-1] - bright[0] < _MAX_FLASH_FRAMES
            and _is_at_start(segments[first], int(bright[0]))
            and _is_same_shot(distances, int(bright[0]) - 1, int(bright[-1]) + 1)
            and _is_same_shot(distances, before, after)
        ):
            return last
    return None


def _is_at_start(segment: Segment, frame: int) -> bool:
    """Return whether a flash that begins at ``frame`` is what ends the segment before this one.

    A fade back is found as a transition, which starts with a margin.
    """
    return frame < segment.end if segment.transition else frame == segment.start


def _is_same_shot(distances: FrameDistances, before: int, after: int) -> bool:
    """Return whether two frames differ little, or not much more than the shot moves in that time.

    How much it moves is seen in as many frames before the first one.
    """
    lag = after - before
    decorrelation = float(distances.decorrelation(np.array([before]), lag)[0])
    difference = distances.distance(before, after)
    moved, moved_difference = 0.0, 0
    if before >= lag:
        moved = float(distances.decorrelation(np.array([before - lag]), lag)[0])
        moved_difference = distances.distance(before - lag, before)
    return decorrelation <= max(
        _MAX_DECORRELATION, min(_MAX_MOTION * moved, _MAX_MOVED_DECORRELATION)
    ) and difference <= max(_MAX_DIFFERENCE * THUMBNAIL_VALUES, _MAX_MOTION * moved_difference)


def _mean_luma(distances: FrameDistances) -> Floats:
    result: Floats = distances.sums[:, 0] / (THUMBNAIL_SIZE[0] * THUMBNAIL_SIZE[1])
    return result
