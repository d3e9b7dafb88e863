"""Which clips a scene gives, known to the frame before anything is decoded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import pyarrow.parquet as pq

from mimix_core.domain import ids
from mimix_core.domain.timeline import CLIP_RATE, Span, clip_starts, grid, nearest_previous
from mimix_core.media import Shape
from mimix_core.settings import ClipSettings, exact
from mimix_core.tables import Reason, Row

HELD_FRAMES = 8
"""A source frame that fills more frames of a clip, over half a second, stands still."""


@dataclass(frozen=True)
class Frames:
    """All frames of an episode, in order: the columns of ``tables.FRAMES`` that clips go by."""

    pts: Sequence[int]
    keyframe: Sequence[bool]
    difference: Sequence[float]
    sharpness: Sequence[float]
    black: Sequence[bool]
    still: Sequence[bool]
    repeat: Sequence[bool]

    @cached_property
    def keyframes(self) -> list[int]:
        """Numbers of the frames that are keyframes."""
        return [number for number, key in enumerate(self.keyframe) if key]

    @cached_property
    def known(self) -> frozenset[int]:
        """The PTS of all frames."""
        return frozenset(self.pts)


def read_frames(path: Path) -> Frames:
    """The frames file that the scenes stage left."""
    names = list(Frames.__dataclass_fields__)
    columns = pq.read_table(path, columns=names).to_pydict()
    return Frames(**columns)


@dataclass(frozen=True)
class Plan:
    """A clip to be made. ``start``: g_0, s. ``numbers``: which source frame each frame shows.

    ``problem``: the reason and the words of a filter that the clip does not pass.
    """

    scene: Row
    shape: Shape
    start: Fraction
    numbers: Sequence[int]
    source_pts: Sequence[int]
    measures: dict[str, float]
    problem: tuple[Reason, str] | None

    @property
    def clip_id(self) -> str:
        return ids.clip_id(self.scene["episode_id"], self.source_pts[0])

    def values(self) -> Row:
        """The columns of this clip as long as it has no file."""
        crop = self.shape.crop
        return (
            no_clip(self.scene, self.start)
            | self.measures
            | {
                "clip_id": self.clip_id,
                "source_pts": list(self.source_pts),
                "crop": [crop.x, crop.y, crop.width, crop.height],
                "width": self.shape.width,
                "height": self.shape.height,
                "frames": len(self.source_pts),
            }
        )


def plan(scene: Row, shape: Shape, frames: Frames, settings: ClipSettings) -> list[Plan]:
    """All clips a scene holds, in order: of those that open with one source frame, the first.

    Raises ValueError when ``frames`` are of other footage.
    """
    time_base = Fraction(scene["time_base_num"], scene["time_base_den"])
    starts = clip_starts(
        Span(scene["start_pts"], scene["end_pts"], time_base),
        stride=None if settings.stride is None else exact(settings.stride),
        margin=exact(settings.margin),
    )
    plans: list[Plan] = []
    for start in starts:
        if plans and nearest_previous(frames.pts, time_base, [start])[0] == plans[-1].numbers[0]:
            continue
        numbers = nearest_previous(frames.pts, time_base, grid(start))
        source_pts = [frames.pts[number] for number in numbers]
        if not scene["start_pts"] <= source_pts[0] <= source_pts[-1] < scene["end_pts"]:
            raise ValueError(
                f"scene {scene['scene_id']}: its clip at {float(start):.3f} s would show frames of "
                "another scene"
            )
        measures = _measures(frames, numbers)
        problem = _problem(measures, settings)
        plans.append(Plan(scene, shape, start, numbers, source_pts, measures, problem))
    return plans


def no_clip(scene: Row, start: Fraction | None = None) -> Row:
    """The columns of a scene without a clip; ``start``: by default the scene's own, s."""
    if start is None:
        start = scene["start_pts"] * Fraction(scene["time_base_num"], scene["time_base_den"])
    same = (
        "scene_id",
        "episode_id",
        "show",
        "style",
        "origin_pts",
        "time_base_num",
        "time_base_den",
        "motion",
        "sharpness",
        "black_share",
        "frozen_share",
        "repeat_share",
    )
    return {name: scene[name] for name in same} | {
        "clip_id": ids.clip_id(scene["episode_id"], scene["start_pts"]),
        "start_num": start.numerator,
        "start_den": start.denominator,
        "source_pts": [],
        "source_width": scene["width"],
        "source_height": scene["height"],
        "crop": [],
        "width": 0,
        "height": 0,
        "frames": 0,
        "rate_num": CLIP_RATE.numerator,
        "rate_den": CLIP_RATE.denominator,
        "file": "",
        "sha256": "",
        "audio_file": "",
        "audio_sha256": "",
        "fingerprint": b"",
    }


def _measures(frames: Frames, numbers: Sequence[int]) -> dict[str, float]:
    """Of the source frames from the first to the last of ``numbers``, left out ones included."""
    begin, end = numbers[0], numbers[-1] + 1
    return {
        # The difference of its first frame is that to a frame outside.
        "motion": _mean(frames.difference[begin + 1 : end]),
        "sharpness": _mean(frames.sharpness[begin:end]),
        "black_share": _mean(frames.black[begin:end]),
        "frozen_share": _frozen(frames, numbers),
        "repeat_share": _mean(frames.repeat[begin:end]),
    }


def _frozen(frames: Frames, numbers: Sequence[int]) -> float:
    """The share of source frames that stand still; of the clip's own, where one is held for long.

    A source of variable rate may hold one frame for seconds: it counts by its time.
    """
    held = {number: shown for number, shown in Counter(numbers).items() if shown > HELD_FRAMES}
    others = [frames.still[n] for n in range(numbers[0], numbers[-1] + 1) if n not in held]
    share = sum(held.values()) / len(numbers)
    return share + (1 - share) * _mean(others)


def _mean(values: Sequence[float]) -> float:
    # fsum rounds once: the same number whatever the processor adds first.
    return math.fsum(values) / len(values) if values else 0.0


def _problem(measures: dict[str, float], settings: ClipSettings) -> tuple[Reason, str] | None:
    black, frozen = measures["black_share"], measures["frozen_share"]
    if black > settings.max_black_share:
        return Reason.CLIP_BLACK, _share("black", black, settings.max_black_share)
    if frozen > settings.max_frozen_share:
        return Reason.CLIP_FROZEN, _share("unchanged", frozen, settings.max_frozen_share)
    sharpness, motion = measures["sharpness"], measures["motion"]
    if sharpness < settings.min_sharpness:
        return (
            Reason.CLIP_BLURRED,
            f"sharpness {sharpness:.1f}, {settings.min_sharpness:g} wanted",
        )
    if motion < settings.min_motion:
        return Reason.CLIP_WITHOUT_MOTION, f"motion {motion:.5f}, {settings.min_motion:g} wanted"
    return None


def _share(word: str, share: float, limit: float) -> str:
    return f"{share:.0%} of the frames are {word}, {limit:.0%} allowed"
