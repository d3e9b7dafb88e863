"""The stage ``scenes``: one row per shot or transition of an episode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core import tables
from mimix_core.domain import ids
from mimix_core.domain.library import Style
from mimix_core.domain.timeline import CLIP_FRAMES
from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.limit_text import format_beside_limit
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.media import ScanType, UnreadableVideo
from mimix_core.settings import SceneSettings
from mimix_core.stages.scenes.analysis import EpisodeAnalysis, analyze_episode
from mimix_core.stages.scenes.frame_distances import Segment
from mimix_core.tables import Reason, Row

FRAMES_FILE = "frames.parquet"


class SceneInputs(FrozenModel):
    """One episode."""

    unit: Annotated[str, ExcludeFromKey()]
    show: str
    style: Style
    video: FileRef


def run(inputs: SceneInputs, settings: SceneSettings, out: Path) -> StageReport:
    """Analyze an episode; return rows that cover it without gaps from first to last frame.

    An unreadable episode is one failed row, as is one with more damage than ``max_damaged_share``
    or with timestamps most of which do not increase.
    Writes ``frames.parquet``. Raises MissingModel for a detector that is not installed.
    """
    try:
        analysis = analyze_episode(inputs.video.path, settings)
    except UnreadableVideo as error:
        return failure_report(inputs, settings, error.reason, error.what)
    damaged = [frame.pts in analysis.damaged for frame in analysis.frames]
    dropped = sum(analysis.repairs.dropped.values())
    if dropped > len(damaged):
        detail = f"the timestamps of {dropped} of {dropped + len(damaged)} frames do not increase"
        return failure_report(inputs, settings, Reason.VIDEO_DAMAGED, detail)
    share = sum(damaged) / len(damaged)
    if share > settings.max_damaged_share:
        detail = (
            f"{sum(damaged)} of {len(damaged)} frames are damaged, "
            f"{settings.max_damaged_share:.2%} allowed (scenes.max_damaged_share)"
        )
        return failure_report(inputs, settings, Reason.VIDEO_DAMAGED, detail)
    out.mkdir(parents=True, exist_ok=True)
    _write_frames(out / FRAMES_FILE, analysis, damaged)
    rows = [
        _segment_row(inputs, settings, analysis, segment, damaged) for segment in analysis.segments
    ]
    notes: dict[str, int] = {
        "frames": len(analysis.frames),
        "transitions": sum(segment.transition for segment in analysis.segments),
        "damaged_frames": sum(damaged),
    }
    if analysis.repairs.reordered:
        # The container states no presentation times.
        notes["reordered_timestamps"] = 1
    if dropped:
        notes["dropped_frames"] = dropped
    return StageReport(rows, rows_in=len(analysis.segments), notes=notes)


def failure_report(
    inputs: SceneInputs, _settings: SceneSettings, reason: Reason, detail: str
) -> StageReport:
    """Return the single failed row of an episode that could not be analyzed."""
    episode = ids.episode_id(inputs.show, inputs.video.sha256)
    values = {
        "scene_id": ids.scene_id(episode, 0),
        "episode_id": episode,
        "show": inputs.show,
        "style": inputs.style.value,
        "origin_pts": 0,
        "start_pts": 0,
        "end_pts": 0,
        "time_base_num": 0,
        "time_base_den": 1,
        "frames": 0,
        "width": 0,
        "height": 0,
        "fields": ScanType.PROGRESSIVE.value,
        "seekable": True,
        **dict.fromkeys(_MEASUREMENT_COLUMNS, 0.0),
        "frames_file": "",
    }
    return StageReport([tables.failed(reason, detail, **values)], rows_in=1)


_MEASUREMENT_COLUMNS = ("motion", "sharpness", "black_share", "frozen_share", "repeat_share")


def _write_frames(path: Path, analysis: EpisodeAnalysis, damaged: Sequence[bool]) -> None:
    frames = analysis.frames
    columns = {
        "pts": [frame.pts for frame in frames],
        "keyframe": [frame.keyframe for frame in frames],
        "difference": [frame.difference for frame in frames],
        "sharpness": [frame.sharpness for frame in frames],
        "black": [frame.black for frame in frames],
        "still": list(analysis.still),
        "repeat": [frame.repeat for frame in frames],
        "damaged": list(damaged),
    }
    table = pa.Table.from_pydict(columns, schema=tables.FRAMES)
    pq.write_table(table, path, compression="zstd", row_group_size=65536)


def _segment_row(
    inputs: SceneInputs,
    settings: SceneSettings,
    analysis: EpisodeAnalysis,
    segment: Segment,
    damaged: Sequence[bool],
) -> Row:
    values = _segment_columns(inputs, analysis, segment)
    if segment.transition:
        return tables.rejected(
            Reason.SCENE_TRANSITION, "frames of two shots, or of a fading shot", **values
        )
    if segment.dropped_frames:
        return tables.rejected(Reason.SCENE_CLOCK_BREAK, _break_detail(segment), **values)
    damaged_frames = sum(damaged[segment.start : segment.end])
    if damaged_frames:
        return tables.rejected(Reason.SCENE_DAMAGED, f"{damaged_frames} damaged frames", **values)
    for share, limit, reason, description in (
        ("black_share", settings.max_black_share, Reason.SCENE_BLACK, "black"),
        ("frozen_share", settings.max_frozen_share, Reason.SCENE_FROZEN, "frozen"),
    ):
        if values[share] > limit:
            shown, allowed = format_beside_limit(values[share], limit, ".0%")
            detail = f"{shown} of the frames are {description}, {allowed} allowed"
            return tables.rejected(reason, detail, **values)
    return tables.ok(**values)


def _break_detail(segment: Segment) -> str:
    count = segment.dropped_frames
    detail = (
        f"{count} frame{'s' * (count > 1)} after this one dropped: "
        f"{'their' if count > 1 else 'its'} timestamps do not increase; no clip crosses this point"
    )
    if count > CLIP_FRAMES:
        detail += "; to use them, cut the file into two episodes here"
    return detail


def _segment_columns(inputs: SceneInputs, analysis: EpisodeAnalysis, segment: Segment) -> Row:
    episode = ids.episode_id(inputs.show, inputs.video.sha256)
    time_base: Fraction = analysis.info.time_base
    frames = analysis.frames[segment.start : segment.end]
    still = analysis.still[segment.start : segment.end]
    last = segment.end == len(analysis.frames)
    start = frames[0].pts
    # Without the first frame, whose difference is that of the cut.
    later_frames = frames[1:]
    return {
        "scene_id": ids.scene_id(episode, start),
        "episode_id": episode,
        "show": inputs.show,
        "style": inputs.style.value,
        "origin_pts": analysis.frames[0].pts,
        "start_pts": start,
        "end_pts": analysis.end_pts if last else analysis.frames[segment.end].pts,
        "time_base_num": time_base.numerator,
        "time_base_den": time_base.denominator,
        "frames": len(frames),
        "width": analysis.info.geometry.width,
        "height": analysis.info.geometry.height,
        "fields": analysis.scan_type.value,
        "seekable": not analysis.repairs,
        "motion": _mean([frame.difference for frame in later_frames]),
        "sharpness": _mean([frame.sharpness for frame in frames]),
        "black_share": _mean([frame.black for frame in frames]),
        "frozen_share": _mean(still),
        "repeat_share": _mean([frame.repeat for frame in later_frames]),
        "frames_file": FRAMES_FILE,
    }


def _mean(values: Sequence[float]) -> float:
    # fsum rounds once; sum rounds differently in Python 3.11 and 3.12.
    return math.fsum(values) / len(values) if values else 0.0


STAGE = Stage(
    name="scenes",
    title="Scenes",
    description="Find the shot boundaries of each episode and measure every shot, in one decode.",
    row_noun="shots",
    phase=Phase.CURATION,
    version=12,
    inputs=SceneInputs,
    settings=SceneSettings,
    table=tables.SCENES,
    run=run,
    failed_rows=failure_report,
)
