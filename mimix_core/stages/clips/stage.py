"""The stage ``clips``: frames of one scene at exactly 16/s, cropped and resized.

Frame k of a clip that starts at t0 is the last source frame with PTS <= t0 + k/16. The frames are
planned from the output of the scenes stage before anything is decoded: no frame of another scene
can be included, and a clip fails when the decoder returns other frames. The episode is decoded
once, in order, for all clips, and each clip is verified by decoding it after writing.
The paper's clips have 81 frames; the setting ``frames`` chooses others.
Source: paper, section 3.3 (81 frames, 16 fps, scene by scene).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mimix_core import tables
from mimix_core.domain.timeline import clip_duration
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.engine.limit_text import format_beside_limit
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import StageFailed
from mimix_core.media import CropResize, Rect, ScanType, move_crop, plan_crop_resize
from mimix_core.settings import ClipSettings, exact_seconds
from mimix_core.stages.clips.encode_clips import EpisodeSource, encode_clips
from mimix_core.stages.clips.planning import (
    ClipPlan,
    FrameIndex,
    base_columns,
    plan_clips,
    read_frame_index,
)
from mimix_core.tables import OverlayRow, Reason, Row, SceneRow, Status


class ClipInputs(FrozenModel):
    """One episode, its scenes, and the rectangle that each scene is cropped to.

    ``language``: of the audio track to prefer; empty: the one that players would choose.
    ``moved_crops``: x, y, width and height in source pixels by clip, where a person has moved them.
    ``whole``: the video is a clip that was made elsewhere, without frames of other shots to keep
    away from.
    """

    unit: Annotated[str, ExcludeFromKey()]
    video: FileRef
    scenes: TableRef
    overlays: TableRef
    language: str = ""
    moved_crops: Annotated[dict[str, tuple[int, int, int, int]], OmitDefault()] = Field(
        default_factory=dict
    )
    whole: Annotated[bool, OmitDefault()] = False


def run(inputs: ClipInputs, settings: ClipSettings, out: Path) -> StageReport:
    """Return one row per clip, and a row with the reason for each usable scene without a clip.

    Raises StageFailed when the tables do not belong together.
    """
    if inputs.whole:
        settings = settings.model_copy(update={"scene_margin_seconds": Decimal(0)})
    scenes = list(tables.usable(tables.read(inputs.scenes.path, tables.SCENES)))
    # Tables are sorted by the text of their ids, in which a PTS may be negative or long.
    scenes.sort(key=lambda scene: int(scene["start_pts"]))
    overlays = {row["scene_id"]: row for row in tables.read(inputs.overlays.path, tables.OVERLAYS)}
    if not scenes:
        return StageReport([], rows_in=0)
    frames = read_frame_index(inputs.scenes.folder / scenes[0]["frames_file"])
    rows: list[Row] = []
    plans: list[ClipPlan] = []
    rows_in = 0
    for scene in scenes:
        overlay = overlays.get(scene["scene_id"])
        if overlay is None:
            raise StageFailed(f"the overlays table has no row for scene {scene['scene_id']}")
        if overlay["status"] != Status.OK:
            rows.append(_rejected_scene_row(scene, overlay, settings.rate))
            rows_in += 1
            continue
        crop_resize = _plan_crop(overlay, settings)
        too_small = _check_source_size(crop_resize.crop, settings)
        if too_small is not None:
            columns = base_columns(scene, settings.rate, text_remains=overlay["text_remains"])
            rows.append(tables.rejected(Reason.SOURCE_TOO_SMALL, too_small, **columns))
            rows_in += 1
            continue
        planned = _plan_scene(scene, overlay, crop_resize, frames, settings)
        planned = [_move_crop(clip_plan, inputs.moved_crops) for clip_plan in planned]
        if not planned:
            rows.append(_too_short_row(scene, settings))
        plans += planned
        rows_in += max(1, len(planned))
    rows += [
        tables.rejected(*clip_plan.rejection, **clip_plan.columns())
        for clip_plan in plans
        if clip_plan.rejection is not None
    ]
    source = EpisodeSource(
        inputs.video.path,
        ScanType(scenes[0]["fields"]),
        frames,
        seekable=scenes[0]["seekable"],
        language=inputs.language,
    )
    accepted = [clip_plan for clip_plan in plans if clip_plan.rejection is None]
    encoded, notes = encode_clips(source, accepted, settings, out)
    return StageReport(rows + encoded, rows_in=rows_in, notes=notes)


def failure_report(
    inputs: ClipInputs, settings: ClipSettings, reason: Reason, detail: str
) -> StageReport:
    """Return one failed row per usable scene of an episode whose process died."""
    scenes = list(tables.usable(tables.read(inputs.scenes.path, tables.SCENES)))
    rows = [tables.failed(reason, detail, **base_columns(scene, settings.rate)) for scene in scenes]
    return StageReport(rows, rows_in=len(scenes))


STAGE = Stage(
    name="clips",
    title="Clips",
    description="Cut shots into clips, of 81 frames by default, at exactly 16 (or 24) frames per "
    "second, verified by decoding.",
    row_noun="clips, and shots without one",
    phase=Phase.CURATION,
    upstream=("scenes", "overlays"),
    version=7,
    inputs=ClipInputs,
    settings=ClipSettings,
    table=tables.CLIPS,
    run=run,
    failed_rows=failure_report,
)


def _plan_crop(overlay: OverlayRow, settings: ClipSettings) -> CropResize:
    area = Rect(overlay["crop_x"], overlay["crop_y"], overlay["crop_width"], overlay["crop_height"])
    return plan_crop_resize(area, settings.width, settings.height, settings.fit)


def _move_crop(clip_plan: ClipPlan, moved: Mapping[str, tuple[int, int, int, int]]) -> ClipPlan:
    """Return the plan with the crop where a person has moved it, in the size that it has."""
    wanted = moved.get(clip_plan.clip_id)
    if wanted is None:
        return clip_plan
    frame = (clip_plan.scene["width"], clip_plan.scene["height"])
    return replace(clip_plan, crop_resize=move_crop(clip_plan.crop_resize, Rect(*wanted), *frame))


def _check_source_size(crop: Rect, settings: ClipSettings) -> str | None:
    """Return why a source area is too small to be enlarged to a clip."""
    min_width = min(settings.min_source_width, settings.width)
    min_height = min(settings.min_source_height, settings.height)
    if crop.width >= min_width and crop.height >= min_height:
        return None
    return (
        f"{crop.width}x{crop.height} pixels of the source would be enlarged to "
        f"{settings.width}x{settings.height}; at least {min_width}x{min_height} "
        "are required (clips.min_source_width, min_source_height)"
    )


def _plan_scene(
    scene: SceneRow,
    overlay: OverlayRow,
    crop_resize: CropResize,
    frames: FrameIndex,
    settings: ClipSettings,
) -> list[ClipPlan]:
    try:
        return plan_clips(scene, crop_resize, frames, settings, overlay["text_remains"])
    except ValueError as error:
        raise StageFailed(
            f"the scenes table and its frames file do not belong together: {error}"
        ) from error


def _too_short_row(scene: SceneRow, settings: ClipSettings) -> Row:
    seconds = (scene["end_pts"] - scene["start_pts"]) * Fraction(
        scene["time_base_num"], scene["time_base_den"]
    )
    required = clip_duration(settings.frames, settings.rate) + 2 * exact_seconds(
        settings.scene_margin_seconds
    )
    length, wanted = format_beside_limit(seconds, required, ".3f")
    detail = (
        f"{length} s long, {wanted} s required for clips of {settings.frames} frames "
        "(clips.frames; fewer need less)"
    )
    return tables.rejected(Reason.SCENE_TOO_SHORT, detail, **base_columns(scene, settings.rate))


def _rejected_scene_row(scene: SceneRow, overlay: OverlayRow, rate: Fraction) -> Row:
    """Build the row of a scene without a usable rectangle."""
    reason, detail = overlay["reason"], overlay["detail"]
    columns = base_columns(scene, rate, text_remains=overlay["text_remains"])
    if overlay["status"] == Status.REJECTED and reason is not None and detail is not None:
        return tables.rejected(Reason(reason), detail, **columns)
    detail = f"overlays: {reason}: {detail}"
    return tables.failed(Reason.UPSTREAM_FAILED, detail, **columns)
