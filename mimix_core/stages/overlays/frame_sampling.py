"""Which frames of an episode are looked at, and how they are come by cheaply."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import ceil
from typing import Any

from mimix_core.domain.timeline import CLIP_FRAMES, CLIP_RATE, clip_duration
from mimix_core.media import UnreadableVideo, Video
from mimix_core.tables import Row

_CLIP = clip_duration(CLIP_FRAMES, CLIP_RATE)
"""A scene shorter than this (s) cannot hold a clip."""

_NEAR = Fraction(3)
"""A frame at most this far ahead (s) is decoded up to; a farther one is jumped to."""


@dataclass(frozen=True)
class Target:
    """A frame that is wanted: at ``pts``, or a keyframe from ``earliest`` on; before ``end``.

    ``scene``: index of the usable scene it is of, whose first frame stands at ``start``.
    """

    scene: int
    pts: int
    earliest: int
    start: int
    end: int


def time_base(scene: Row) -> Fraction:
    """Seconds of a PTS tick."""
    return Fraction(scene["time_base_num"], scene["time_base_den"])


def length(scene: Row) -> Fraction:
    """Seconds that a scene lasts."""
    ticks: int = scene["end_pts"] - scene["start_pts"]
    return ticks * time_base(scene)


def holds_a_clip(scene: Row) -> bool:
    """Whether 81 frames at 16/s fit into the scene."""
    return length(scene) >= _CLIP


def targets(scenes: Sequence[Row], count: int) -> list[Target]:
    """The frames to look at, in order.

    Every scene that can hold a clip gives two or more, one for each clip length it lasts, and its
    share of ``count``. Of the shorter ones those are looked at that hold one of ``count`` points
    spread evenly over the time of all scenes: they give no clip but tell of overlays.
    """
    found = []
    total = sum((length(scene) for scene in scenes), Fraction(0))
    for index, scene in enumerate(scenes):
        if holds_a_clip(scene):
            share = ceil(count * length(scene) / total)
            parts = max(2, share, int(length(scene) // _CLIP))
            start, ticks = scene["start_pts"], scene["end_pts"] - scene["start_pts"]
            found += [
                Target(
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
        if not holds_a_clip(scene):
            start, end = scene["start_pts"], scene["end_pts"]
            pts = end - (ends[index] - at)
            found.append(Target(index, pts, (start + pts) // 2, start, end))
    return sorted(found, key=lambda target: (target.pts, target.scene))


def frames_near(video: Video, wanted: Sequence[Target]) -> Iterator[tuple[Target, Any]]:
    """For each target in order its frame, or the UnreadableVideo that kept it from coming.

    Frames that no other frame refers to are not decoded, so what comes is the first reference
    frame at or after the wanted PTS. Where that lies behind the scene, the scene's first frame
    comes in its stead, once: a scene may be one frame that is shown for long. No frame comes twice.
    """
    near = int(_NEAR / video.info.time_base)
    frames: Iterator[Any] = iter(())
    at: int | None = None
    seen: set[int] = set()
    for target in wanted:
        if at is not None and at >= target.pts:
            continue
        try:
            if at is None or target.pts - at > near:
                video.stream.codec_context.skip_frame = "NONREF"
                frames = video.frames_from(target.pts)
            frame = _first(frames, target)
            at = None if frame is None else frame.pts
            if target.scene not in seen and (frame is None or frame.pts >= target.end):
                video.stream.codec_context.skip_frame = "DEFAULT"
                whole = video.frames_from(target.start)
                frame = next((one for one in whole if one.pts >= target.start), None)
                at = None
        except UnreadableVideo as error:
            at = None
            yield target, error
            continue
        if frame is not None and target.start <= frame.pts < target.end:
            seen.add(target.scene)
            yield target, frame


def _first(frames: Iterator[Any], target: Target) -> Any:
    for frame in frames:
        if frame.pts >= target.pts or (frame.key_frame and frame.pts >= target.earliest):
            return frame
    return None
