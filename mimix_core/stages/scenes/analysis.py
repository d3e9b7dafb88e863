"""The one pass over an episode's frames: measures of each, boundaries between the shots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mimix_core.engine import progress
from mimix_core.media import Fields, VideoInfo, find_fields, open_video
from mimix_core.media.opencv_threads import one_opencv_thread
from mimix_core.settings import SceneSettings
from mimix_core.stages.scenes.content_detectors import Cuts
from mimix_core.stages.scenes.frame_distances import Blend, Tape, Thumbs
from mimix_core.stages.scenes.frame_downscale import Bytes, Reducer, Small, shrink
from mimix_core.stages.scenes.gradual_transitions import find_blends, find_cuts, mixed_at, real_cuts
from mimix_core.stages.scenes.transnetv2 import Network

_BLACK_LUMA = 20
"""A pixel below this (of 255) counts as black."""

_BLACK_PIXELS = 0.98
"""A frame with more black pixels than this share is black."""

_STILL = 2
"""The picture stands still while no part of it differs by more (mean luma levels)."""

_REPEAT = 1
"""The same for a frame that repeats the one before: encoding leaves no more of a difference."""

_PARTS = (16, 9)
"""The parts: columns, rows."""

_STILL_SECONDS = Fraction(1, 2)
"""Shorter stills are drawn animation (a picture held for 2 to 4 frames), not a frozen picture."""

_REPORT_EVERY = 24
"""Frames between two reports of progress."""


@dataclass(frozen=True)
class Frame:
    """What the analysis keeps of a frame; see ``tables.FRAMES``."""

    pts: int
    keyframe: bool
    difference: float
    sharpness: float
    black: bool
    repeat: bool


@dataclass(frozen=True)
class Segment:
    """Frames [start, end): a shot, or a transition between two."""

    start: int
    end: int
    transition: bool


@dataclass(frozen=True)
class Analysis:
    """All frames of an episode, and the segments that tile them.

    ``still``: for each frame whether it belongs to a stretch in which nothing moves. ``damaged``:
    the PTS of frames that the decoder had to make up in part.
    """

    info: VideoInfo
    fields: Fields
    frames: Sequence[Frame]
    still: Sequence[bool]
    damaged: frozenset[int]
    segments: Sequence[Segment]
    end_pts: int


def analyse(path: Path, settings: SceneSettings) -> Analysis:
    """Decode a video once. Raises UnreadableVideo, or MissingModel for a detector's weights."""
    cuts, thumbs = Cuts(settings), Thumbs()
    network = Network(settings.network_threshold) if "transnetv2" in settings.detectors else None
    fields = find_fields(path, threads=settings.decode_threads)
    frames: list[Frame] = []
    with (
        open_video(path, threads=settings.decode_threads, fields=fields) as video,
        one_opencv_thread(),
    ):
        info = video.info
        reduce = Reducer(video.first, height=settings.analysis_height, full_range=info.full_range)
        stills = _Stills(info.time_base)
        before: Small | None = None
        end = 0
        for frame in video.frames():
            small = reduce(frame)
            cuts.add(small.bgr)
            thumbs.add(small.thumb)
            if network is not None:
                network.add(small.bgr)
            stills.add(frame.pts, small.half)
            frames.append(_measure(frame, small, before))
            end = frame.pts + _duration(frame, frames, info)
            before = small
            if len(frames) % _REPORT_EVERY == 0:
                progress.advance(len(frames), info.expected_frames, "frames analysed")
        damaged = frozenset(video.damage.pts)
    tape = thumbs.finish()
    segments = _segments(tape, real_cuts(tape, cuts.finish()), network, settings)
    return Analysis(info, fields, frames, stills.finish(end), damaged, segments, end)


def tiled(frames: int, cuts: Sequence[int], blends: Sequence[Blend]) -> list[Segment]:
    """Shots and transitions that follow one another from frame 0 to ``frames`` without a gap.

    Cuts inside a transition are part of it; transitions that overlap or touch are one.
    """
    mixed = np.zeros(frames + 1, bool)
    for blend in blends:
        mixed[blend.start : blend.end] = True
    mixed[frames] = False
    opens = {0, *np.flatnonzero(mixed[1:] != mixed[:-1]) + 1}
    opens.update(cut for cut in cuts if not (mixed[cut - 1] and mixed[cut]))
    starts = sorted(int(start) for start in opens if start < frames)
    return [
        Segment(start, stop, bool(mixed[start]))
        for start, stop in zip(starts, [*starts[1:], frames], strict=True)
    ]


def _segments(
    tape: Tape, cuts: list[int], network: Network | None, settings: SceneSettings
) -> list[Segment]:
    blends: list[Blend] = []
    if network is not None:
        found = network.finish(tape)
        cuts += found.cuts
        blends += found.blends
    if "blend" in settings.detectors:
        cuts += find_cuts(tape)
        blends += find_blends(tape, settings.blend_residual, settings.blend_misfit)
    return tiled(len(tape), cuts, blends + mixed_at(tape, cuts))


class _Stills:
    """Marks the frames that belong to a stretch in which the picture stands still.

    Each frame is compared with the first of its stretch, so that a slow fade is no still.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._minimum = _STILL_SECONDS / time_base
        self._anchor: Bytes | None = None
        self._stretch: list[int] = []
        self._marks: list[bool] = []

    def add(self, pts: int, half: Bytes) -> None:
        if self._anchor is None or _apart(self._anchor, half) > _STILL:
            self._end(pts)
            self._anchor = half
        self._stretch.append(pts)

    def finish(self, end: int) -> list[bool]:
        self._end(end)
        return self._marks

    def _end(self, end: int) -> None:
        if self._stretch:
            frozen = len(self._stretch) > 1 and end - self._stretch[0] >= self._minimum
            self._marks += [frozen] * len(self._stretch)
        self._stretch = []


def _apart(one: Bytes, other: Bytes) -> int:
    """The mean difference in the part of two pictures where it is largest, luma levels."""
    return int(shrink(cv2.absdiff(one, other), _PARTS).max())


def _measure(frame: Any, small: Small, before: Small | None) -> Frame:
    pixels = small.luma.size
    difference, repeat = 0.0, False
    if before is not None:
        difference = cv2.norm(small.luma, before.luma, cv2.NORM_L1) / (255 * pixels)
        repeat = _apart(small.half, before.half) <= _REPEAT
    edges = cv2.Laplacian(small.luma, cv2.CV_16S)
    dark = int(np.count_nonzero(small.half < _BLACK_LUMA))
    return Frame(
        pts=frame.pts,
        keyframe=bool(frame.key_frame),
        difference=difference,
        # Whole numbers summed as doubles: exact, in whatever order a processor adds them.
        sharpness=cv2.norm(edges, cv2.NORM_L2SQR) / pixels,
        black=dark > _BLACK_PIXELS * small.half.size,
        repeat=repeat,
    )


def _duration(frame: Any, frames: Sequence[Frame], info: VideoInfo) -> int:
    """How long a frame is shown, in PTS: as stated, else as long as the frame before it."""
    if frame.duration:
        return int(frame.duration)
    if len(frames) > 1:
        return frames[-1].pts - frames[-2].pts
    return max(1, int(1 / (info.rate * info.time_base))) if info.rate else 1
