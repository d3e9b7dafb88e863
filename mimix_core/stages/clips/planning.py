"""Clip planning: the exact source frames of each clip, before anything is decoded."""

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
from mimix_core.domain.timeline import (
    Span,
    clip_start_times,
    grid_times,
    preceding_frame_indices,
)
from mimix_core.engine.limit_text import format_beside_limit
from mimix_core.media import CropResize
from mimix_core.settings import ClipSettings, exact_seconds
from mimix_core.tables import Reason, Row, SceneRow

MAX_REPEAT_SECONDS = Fraction(1, 2)
"""A source frame repeated in a clip for longer counts as frozen."""


@dataclass(frozen=True)
class FrameIndex:
    """All frames of an episode in order: the columns of ``tables.FRAMES`` used for clips."""

    pts: Sequence[int]
    keyframe: Sequence[bool]
    difference: Sequence[float]
    sharpness: Sequence[float]
    black: Sequence[bool]
    still: Sequence[bool]
    repeat: Sequence[bool]

    @cached_property
    def keyframes(self) -> list[int]:
        """The numbers of the keyframes."""
        return [number for number, key in enumerate(self.keyframe) if key]

    @cached_property
    def all_pts(self) -> frozenset[int]:
        """The PTS of all frames."""
        return frozenset(self.pts)


def read_frame_index(path: Path) -> FrameIndex:
    """Read the frames file written by the scenes stage."""
    names = list(FrameIndex.__dataclass_fields__)
    columns = pq.read_table(path, columns=names).to_pydict()
    return FrameIndex(**columns)


@dataclass(frozen=True)
class ClipPlan:
    """A planned clip.

    ``start``: g_0, seconds. ``frame_numbers``: the source frame of each clip frame. ``rate``:
    clip frames per second.
    ``rejection``: reason and detail of the filter that rejects the clip, if any.
    """

    scene: SceneRow
    crop_resize: CropResize
    start: Fraction
    frame_numbers: Sequence[int]
    source_pts: Sequence[int]
    rate: Fraction
    measurements: dict[str, float]
    rejection: tuple[Reason, str] | None
    text_remains: str = ""

    @property
    def clip_id(self) -> str:
        return ids.clip_id(self.scene["episode_id"], self.source_pts[0])

    def columns(self) -> Row:
        """Return the columns of this clip before its file is written."""
        crop = self.crop_resize.crop
        return (
            base_columns(self.scene, self.rate, self.start, self.text_remains)
            | self.measurements
            | {
                "clip_id": self.clip_id,
                "source_pts": list(self.source_pts),
                "crop": [crop.x, crop.y, crop.width, crop.height],
                "width": self.crop_resize.width,
                "height": self.crop_resize.height,
                "frames": len(self.source_pts),
            }
        )


def plan_clips(
    scene: SceneRow,
    crop_resize: CropResize,
    frames: FrameIndex,
    settings: ClipSettings,
    text_remains: str = "",
) -> list[ClipPlan]:
    """Plan all clips of a scene, in order; of clips with the same first source frame, only one.

    ``text_remains``: see ``tables.OVERLAYS``.
    Raises ValueError when ``frames`` belong to other footage.
    """
    time_base = Fraction(scene["time_base_num"], scene["time_base_den"])
    starts = clip_start_times(
        Span(scene["start_pts"], scene["end_pts"], time_base),
        frames=settings.frames,
        rate=settings.rate,
        stride=None if settings.stride_seconds is None else exact_seconds(settings.stride_seconds),
        margin=exact_seconds(settings.scene_margin_seconds),
    )
    plans: list[ClipPlan] = []
    for start in starts:
        if (
            plans
            and preceding_frame_indices(frames.pts, time_base, [start])[0]
            == plans[-1].frame_numbers[0]
        ):
            continue
        frame_numbers = preceding_frame_indices(
            frames.pts, time_base, grid_times(start, settings.frames, settings.rate)
        )
        source_pts = [frames.pts[number] for number in frame_numbers]
        if not scene["start_pts"] <= source_pts[0] <= source_pts[-1] < scene["end_pts"]:
            raise ValueError(
                f"scene {scene['scene_id']}: its clip at {float(start):.3f} s would show frames of "
                "another scene"
            )
        measurements = _measure(frames, frame_numbers, settings.rate)
        rejection = _check_filters(measurements, settings)
        plans.append(
            ClipPlan(
                scene,
                crop_resize,
                start,
                frame_numbers,
                source_pts,
                settings.rate,
                measurements,
                rejection,
                text_remains,
            )
        )
    return plans


def base_columns(
    scene: SceneRow, rate: Fraction, start: Fraction | None = None, text_remains: str = ""
) -> Row:
    """Return the columns of a scene without a clip. ``rate``: frames per second; ``start``: s."""
    if start is None:
        start = scene["start_pts"] * Fraction(scene["time_base_num"], scene["time_base_den"])
    copied_columns = (
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
    columns: Row = {**scene}
    return {name: columns[name] for name in copied_columns} | {
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
        "rate_num": rate.numerator,
        "rate_den": rate.denominator,
        "text_remains": text_remains,
        "file": "",
        "sha256": "",
        "audio_file": "",
        "audio_sha256": "",
        "lost_audio_ms": 0,
        "fingerprint": b"",
        "inset_fingerprint": b"",
    }


def _measure(frames: FrameIndex, frame_numbers: Sequence[int], rate: Fraction) -> dict[str, float]:
    """Measure all source frames from the first to the last, including those the clip skips."""
    begin, end = frame_numbers[0], frame_numbers[-1] + 1
    return {
        # The first frame's difference is that to a frame outside of the clip.
        "motion": _mean(frames.difference[begin + 1 : end]),
        "sharpness": _mean(frames.sharpness[begin:end]),
        "black_share": _mean(frames.black[begin:end]),
        "frozen_share": _frozen_share(frames, frame_numbers, rate),
        "repeat_share": _mean(frames.repeat[begin:end]),
    }


def _frozen_share(frames: FrameIndex, frame_numbers: Sequence[int], rate: Fraction) -> float:
    """Compute the share of frozen source frames.

    A source of variable rate may show one frame for seconds: frames repeated for longer than
    ``MAX_REPEAT_SECONDS`` count by their number of clip frames.
    """
    repeated = {
        number: count
        for number, count in Counter(frame_numbers).items()
        if count > MAX_REPEAT_SECONDS * rate
    }
    others = [
        frames.still[n] for n in range(frame_numbers[0], frame_numbers[-1] + 1) if n not in repeated
    ]
    share = sum(repeated.values()) / len(frame_numbers)
    return share + (1 - share) * _mean(others)


def _mean(values: Sequence[float]) -> float:
    # fsum rounds once: the result does not depend on the order of additions.
    return math.fsum(values) / len(values) if values else 0.0


def _check_filters(
    measurements: dict[str, float], settings: ClipSettings
) -> tuple[Reason, str] | None:
    black, frozen = measurements["black_share"], measurements["frozen_share"]
    if black > settings.max_black_share:
        return Reason.CLIP_BLACK, _share_detail("black", black, settings.max_black_share)
    if frozen > settings.max_frozen_share:
        return Reason.CLIP_FROZEN, _share_detail("unchanged", frozen, settings.max_frozen_share)
    sharpness, motion = measurements["sharpness"], measurements["motion"]
    if sharpness < settings.min_sharpness:
        shown, required = format_beside_limit(sharpness, settings.min_sharpness, ".1f")
        return Reason.CLIP_BLURRED, f"sharpness {shown}, {required} required"
    if motion < settings.min_motion:
        shown, required = format_beside_limit(motion, settings.min_motion, ".5f")
        return Reason.CLIP_WITHOUT_MOTION, f"motion {shown}, {required} required"
    return None


def _share_detail(description: str, share: float, limit: float) -> str:
    shown, allowed = format_beside_limit(share, limit, ".0%")
    return f"{shown} of the frames are {description}, {allowed} allowed"
