"""Choose which frames of an episode to sample, and read them with minimal decoding."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import ceil
from typing import Any

from mimix_core.media import UnreadableVideo, VideoReader
from mimix_core.tables import SceneRow

_MAX_DECODE_AHEAD_SECONDS = Fraction(3)
"""A frame at most this far ahead is reached by decoding, a farther one by seeking."""


@dataclass(frozen=True)
class SamplingTarget:
    """A frame to sample: the one at ``pts``, or a keyframe at or after ``earliest``.

    ``scene``: index of its usable scene, which is the interval [``start``, ``end``) in PTS.
    """

    scene: int
    pts: int
    earliest: int
    start: int
    end: int


def scene_time_base(scene: SceneRow) -> Fraction:
    """Return the seconds of one PTS tick."""
    return Fraction(scene["time_base_num"], scene["time_base_den"])


def scene_duration(scene: SceneRow) -> Fraction:
    """Return a scene's duration in seconds."""
    ticks = scene["end_pts"] - scene["start_pts"]
    return ticks * scene_time_base(scene)


def fits_clip(scene: SceneRow, clip_seconds: Fraction) -> bool:
    """Return whether a clip of that duration fits into the scene."""
    return scene_duration(scene) >= clip_seconds


def plan_sampling_targets(
    scenes: Sequence[SceneRow], count: int, clip_seconds: Fraction
) -> list[SamplingTarget]:
    """Choose the frames to sample, in order. ``clip_seconds``: the duration of a clip.

    A scene into which a clip fits gets at least two frames, at least one for each clip length and
    at least its share of ``count``. Shorter scenes yield no clips but show overlays: those are
    sampled that contain one of ``count`` points spread evenly over the time of all scenes.
    """
    targets = []
    total = sum((scene_duration(scene) for scene in scenes), Fraction(0))
    for index, scene in enumerate(scenes):
        if fits_clip(scene, clip_seconds):
            share = ceil(count * scene_duration(scene) / total)
            parts = max(2, share, int(scene_duration(scene) // clip_seconds))
            start, ticks = scene["start_pts"], scene["end_pts"] - scene["start_pts"]
            targets += [
                SamplingTarget(
                    index,
                    start + ticks * (4 * part + 2) // (4 * parts),
                    start + ticks * (4 * part + 1) // (4 * parts),
                    start,
                    scene["end_pts"],
                )
                for part in range(parts)
            ]
    ends = list(accumulate(scene["end_pts"] - scene["start_pts"] for scene in scenes))
    for point in range(count) if ends else ():
        at = ends[-1] * (2 * point + 1) // (2 * count)
        index = bisect_right(ends, at)
        scene = scenes[index]
        if not fits_clip(scene, clip_seconds):
            start, end = scene["start_pts"], scene["end_pts"]
            pts = end - (ends[index] - at)
            targets.append(SamplingTarget(index, pts, (start + pts) // 2, start, end))
    return sorted(targets, key=lambda target: (target.pts, target.scene))


def read_target_frames(
    video: VideoReader, targets: Sequence[SamplingTarget]
) -> Iterator[tuple[SamplingTarget, Any]]:
    """Yield each target in order with its frame, or with the UnreadableVideo raised for it.

    Non-reference frames are not decoded: the frame is the first reference frame at or after the
    target's PTS. If that is past the end of the scene, the scene's first frame is used instead,
    once per scene: a scene may be a single frame that is shown for long. No frame is used twice.
    A video that is not seekable is decoded once, completely.
    """
    if not video.seekable:
        yield from _read_sequentially(video, targets)
        return
    max_ahead = int(_MAX_DECODE_AHEAD_SECONDS / video.info.time_base)
    frames: Iterator[Any] = iter(())
    position: int | None = None
    sampled_scenes: set[int] = set()
    for target in targets:
        if position is not None and position >= target.pts:
            continue
        try:
            if position is None or target.pts - position > max_ahead:
                video.stream.codec_context.skip_frame = "NONREF"
                frames = video.frames_from(target.pts)
            frame = _first_match(frames, target)
            position = None if frame is None else frame.pts
            if target.scene not in sampled_scenes and (frame is None or frame.pts >= target.end):
                video.stream.codec_context.skip_frame = "DEFAULT"
                scene_frames = video.frames_from(target.start)
                frame = next((f for f in scene_frames if f.pts >= target.start), None)
                position = None
        except UnreadableVideo as error:
            position = None
            yield target, error
            continue
        if frame is not None and target.start <= frame.pts < target.end:
            sampled_scenes.add(target.scene)
            yield target, frame


def _read_sequentially(
    video: VideoReader, targets: Sequence[SamplingTarget]
) -> Iterator[tuple[SamplingTarget, Any]]:
    """Yield each target with the frame displayed at its PTS."""
    frames = video.frames()
    frame = following = next(frames, None)
    for target in targets:
        try:
            while following is not None and following.pts <= target.pts:
                frame, following = following, next(frames, None)
        except UnreadableVideo as error:
            following = None
            yield target, error
            continue
        if frame is not None and target.start <= frame.pts <= target.pts:
            yield target, frame
            # No frame is used twice.
            frame = None


def _first_match(frames: Iterator[Any], target: SamplingTarget) -> Any:
    for frame in frames:
        if frame.pts >= target.pts or (frame.key_frame and frame.pts >= target.earliest):
            return frame
    return None
