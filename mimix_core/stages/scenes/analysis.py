"""Single-pass analysis of an episode: measurements of every frame and the shot boundaries."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mimix_core.engine import progress
from mimix_core.media import ScanType, TimestampRepairs, VideoInfo, detect_scan_type, open_video
from mimix_core.media.opencv_threads import opencv_single_thread
from mimix_core.settings import SceneSettings
from mimix_core.stages.scenes.color_share import measure_color_share
from mimix_core.stages.scenes.content_detectors import ContentCutDetector
from mimix_core.stages.scenes.flashes import (
    Flash,
    find_flashes,
    outside_flashes,
    remove_flashes,
)
from mimix_core.stages.scenes.frame_distances import (
    FrameDistanceBuilder,
    FrameDistances,
    Segment,
    Transition,
)
from mimix_core.stages.scenes.frame_downscale import (
    AnalysisFrame,
    ByteArray,
    FrameDownscaler,
    downscale_plane,
)
from mimix_core.stages.scenes.gradual_transitions import (
    detect_blended_neighbors,
    detect_low_contrast_cuts,
    detect_transitions,
    drop_false_cuts,
)
from mimix_core.stages.scenes.transnetv2 import TransNetDetections, TransNetV2Detector
from mimix_core.stages.scenes.wipes import detect_wipes

_MAX_BLACK_LUMA = 20
"""Pixels below this level (of 255) count as black."""

_MIN_BLACK_PIXELS = 0.98
"""A frame is black when its share of black pixels is higher."""

_MAX_STILL_DIFFERENCE = 2
"""Frames are still while no grid cell differs by more than this (mean luma levels)."""

_MAX_REPEAT_DIFFERENCE = 1
"""The same for a frame that repeats the previous one: larger differences are not from encoding."""

_COMPARISON_GRID = (16, 9)
"""Columns and rows of the grid in which frames are compared."""

_MIN_STILL_SECONDS = Fraction(1, 2)
"""Shorter runs are animation (each drawing shown for 2 to 4 frames), not frozen video."""

_PROGRESS_INTERVAL = 24
"""Frames between two progress reports."""


@dataclass(frozen=True)
class FrameMeasurements:
    """Measurements of one frame; see ``tables.FRAMES``."""

    pts: int
    keyframe: bool
    difference: float
    sharpness: float
    black: bool
    repeat: bool


@dataclass(frozen=True)
class EpisodeAnalysis:
    """The frames of an episode and the segments that partition them.

    ``still``: for each frame, whether it is part of a run without motion. ``damaged``: the PTS of
    frames that the decoder had to conceal in part. ``repairs``: what made the timestamps increase.
    """

    info: VideoInfo
    scan_type: ScanType
    frames: Sequence[FrameMeasurements]
    still: Sequence[bool]
    damaged: frozenset[int]
    repairs: TimestampRepairs
    segments: Sequence[Segment]
    end_pts: int


def analyze_episode(path: Path, settings: SceneSettings) -> EpisodeAnalysis:
    """Analyze a video in one decode. Raises UnreadableVideo and MissingModel."""
    cut_detector, distance_builder = ContentCutDetector(settings), FrameDistanceBuilder()
    network = None
    if "transnetv2" in settings.detectors:
        network = TransNetV2Detector(settings.transnetv2_threshold)
    scan_type = detect_scan_type(path, threads=settings.decode_threads)
    frames: list[FrameMeasurements] = []
    with (
        open_video(path, threads=settings.decode_threads, scan_type=scan_type) as video,
        opencv_single_thread(),
    ):
        info = video.info
        downscale = FrameDownscaler(
            video.first_frame, height=settings.analysis_height, full_range=info.full_range
        )
        still_detector = _StillDetector(info.time_base)
        previous: AnalysisFrame | None = None
        end = 0
        for frame in video.frames():
            analysis_frame = downscale(frame)
            cut_detector.add(analysis_frame.bgr, measure_color_share(analysis_frame.thumbnail))
            distance_builder.add(analysis_frame.thumbnail)
            if network is not None:
                network.add(analysis_frame.bgr)
            still_detector.add(frame.pts, analysis_frame.half_luma)
            frames.append(_measure_frame(frame, analysis_frame, previous))
            end = frame.pts + _frame_duration(frame, frames, info)
            previous = analysis_frame
            if len(frames) % _PROGRESS_INTERVAL == 0:
                progress.report_progress(len(frames), info.expected_frames, "frames analyzed")
        damaged, repairs = frozenset(video.damage.pts), video.repairs
    distances = distance_builder.finish()
    detections = TransNetDetections([], []) if network is None else network.finish(distances)
    segments = isolate_breaks(
        _find_segments(distances, cut_detector.finish(), detections, settings),
        _locate_breaks([frame.pts for frame in frames], repairs),
        [frame.pts in damaged for frame in frames],
    )
    return EpisodeAnalysis(
        info, scan_type, frames, still_detector.finish(end), damaged, repairs, segments, end
    )


def tile_segments(
    frames: int, cuts: Sequence[int], transitions: Sequence[Transition]
) -> list[Segment]:
    """Partition frames 0 to ``frames`` into shots and transitions without gaps.

    Cuts inside a transition are absorbed by it; overlapping or touching transitions are merged.
    """
    in_transition = np.zeros(frames + 1, bool)
    for transition in transitions:
        in_transition[transition.start : transition.end] = True
    in_transition[frames] = False
    boundaries = {0, *np.flatnonzero(in_transition[1:] != in_transition[:-1]) + 1}
    boundaries.update(cut for cut in cuts if not (in_transition[cut - 1] and in_transition[cut]))
    starts = sorted(int(start) for start in boundaries if start < frames)
    return [
        Segment(start, stop, bool(in_transition[start]))
        for start, stop in zip(starts, [*starts[1:], frames], strict=True)
    ]


def isolate_breaks(
    segments: Sequence[Segment], breaks: Mapping[int, int], damaged: Sequence[bool]
) -> list[Segment]:
    """Give the frame before each break in time, and damaged ones before it, a separate segment.

    ``breaks``: the number of frames dropped after the frame, by the frame's index.
    """
    isolated: list[Segment] = []
    ordered = sorted(breaks)
    for segment in segments:
        start = segment.start
        for last in ordered[bisect_left(ordered, start) : bisect_left(ordered, segment.end)]:
            first = last
            while first > start and damaged[first] and damaged[first - 1]:
                first -= 1
            if start < first:
                isolated.append(Segment(start, first, segment.transition))
            isolated.append(Segment(first, last + 1, False, breaks[last]))
            start = last + 1
        if start < segment.end:
            isolated.append(Segment(start, segment.end, segment.transition))
    return isolated


def _locate_breaks(pts: Sequence[int], repairs: TimestampRepairs) -> dict[int, int]:
    """Return the number of frames dropped after each frame that precedes a break, by its index."""
    breaks: Counter[int] = Counter()
    for before, count in repairs.dropped.items():
        # Film frames made from telecined video have times of their own.
        breaks[max(0, bisect_right(pts, before) - 1)] += count
    return dict(breaks)


def _find_segments(
    distances: FrameDistances,
    content_cuts: Iterable[int],
    network: TransNetDetections,
    settings: SceneSettings,
) -> list[Segment]:
    """Find all boundaries, and again without the flashes that are the reason for some of them."""
    cuts = [*drop_false_cuts(distances, content_cuts), *network.cuts]
    segments = _detect_segments(distances, cuts, network.transitions, [], settings)
    flashes = find_flashes(distances, segments)
    if not flashes:
        return segments
    return _detect_segments(
        remove_flashes(distances, flashes),
        outside_flashes(cuts, flashes),
        network.transitions,
        flashes,
        settings,
    )


def _detect_segments(
    distances: FrameDistances,
    known_cuts: Sequence[int],
    known_transitions: Sequence[Transition],
    flashes: Sequence[Flash],
    settings: SceneSettings,
) -> list[Segment]:
    """Partition the frames by the detectors that need only distances, and by what is known."""
    cuts, transitions = [*known_cuts], [*known_transitions]
    if "gradual" in settings.detectors:
        cuts += outside_flashes(detect_low_contrast_cuts(distances), flashes)
        transitions += detect_transitions(
            distances,
            settings.dissolve_max_residual,
            settings.dissolve_max_contrast_residual,
        )
    if "wipes" in settings.detectors:
        transitions += detect_wipes(distances, cuts, transitions)
    return tile_segments(
        len(distances), cuts, transitions + detect_blended_neighbors(distances, cuts)
    )


class _StillDetector:
    """Marks the frames in runs without motion.

    Each frame is compared with the first of its run: otherwise a slow fade would count as still.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._minimum = _MIN_STILL_SECONDS / time_base
        self._anchor: ByteArray | None = None
        self._run: list[int] = []
        self._is_still: list[bool] = []

    def add(self, pts: int, half_luma: ByteArray) -> None:
        if (
            self._anchor is None
            or _max_grid_difference(self._anchor, half_luma) > _MAX_STILL_DIFFERENCE
        ):
            self._end(pts)
            self._anchor = half_luma
        self._run.append(pts)

    def finish(self, end: int) -> list[bool]:
        self._end(end)
        return self._is_still

    def _end(self, end: int) -> None:
        if self._run:
            frozen = len(self._run) > 1 and end - self._run[0] >= self._minimum
            self._is_still += [frozen] * len(self._run)
        self._run = []


def _max_grid_difference(first: ByteArray, second: ByteArray) -> int:
    """Return the mean difference in the grid cell where it is largest, luma levels."""
    return int(downscale_plane(cv2.absdiff(first, second), _COMPARISON_GRID).max())


def _measure_frame(
    frame: Any, analysis_frame: AnalysisFrame, previous: AnalysisFrame | None
) -> FrameMeasurements:
    pixels = analysis_frame.luma.size
    difference, repeat = 0.0, False
    if previous is not None:
        difference = cv2.norm(analysis_frame.luma, previous.luma, cv2.NORM_L1) / (255 * pixels)
        repeat = (
            _max_grid_difference(analysis_frame.half_luma, previous.half_luma)
            <= _MAX_REPEAT_DIFFERENCE
        )
    edges = cv2.Laplacian(analysis_frame.luma, cv2.CV_16S)
    dark = int(np.count_nonzero(analysis_frame.half_luma < _MAX_BLACK_LUMA))
    return FrameMeasurements(
        pts=frame.pts,
        keyframe=bool(frame.key_frame),
        difference=difference,
        # Integers summed as doubles: exact in any order of additions.
        sharpness=cv2.norm(edges, cv2.NORM_L2SQR) / pixels,
        black=dark > _MIN_BLACK_PIXELS * analysis_frame.half_luma.size,
        repeat=repeat,
    )


def _frame_duration(frame: Any, frames: Sequence[FrameMeasurements], info: VideoInfo) -> int:
    """Return a frame's display duration in PTS: as stated, or else that of the previous frame."""
    if frame.duration:
        return int(frame.duration)
    if len(frames) > 1:
        return frames[-1].pts - frames[-2].pts
    return max(1, int(1 / (info.rate * info.time_base))) if info.rate else 1
