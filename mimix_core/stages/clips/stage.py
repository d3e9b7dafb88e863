"""Clips: 81 frames at exactly 16/s, of one scene, cropped to the overlay rectangle and fitted.

Frame k of a clip that starts at t0 is the last source frame with PTS <= t0 + k/16. Which frames
those are is known from the scenes stage before anything is decoded, so no frame of another scene
can enter, and a decode that gives others fails the clip. The episode is decoded once, forward, and
feeds whichever clips are due; each clip is decoded back after writing.
Source: paper, section 3.3 (81 frames, 16 fps, scene by scene).
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

from mimix_core import tables
from mimix_core.domain.timeline import clip_duration
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import StageFailed
from mimix_core.media import Fields, Rect, fit
from mimix_core.settings import ClipSettings, exact
from mimix_core.stages.clips.encode_clips import Source, make
from mimix_core.stages.clips.planning import Frames, Plan, no_clip, plan, read_frames
from mimix_core.tables import Reason, Row, Status


class ClipInputs(FrozenModel):
    """One episode, its scenes and the rectangle to keep of each."""

    unit: Annotated[str, ExcludeFromKey()]
    video: FileRef
    scenes: TableRef
    overlays: TableRef


def run(inputs: ClipInputs, settings: ClipSettings, out: Path) -> StageReport:
    """One row per clip; a usable scene without one has a row that says why.

    Raises StageFailed when the tables do not belong together.
    """
    scenes = list(tables.usable(tables.read(inputs.scenes.path, tables.SCENES)))
    # Tables are sorted by the text of their ids, in which a PTS may be negative or long.
    scenes.sort(key=lambda scene: int(scene["start_pts"]))
    overlays = {row["scene_id"]: row for row in tables.read(inputs.overlays.path, tables.OVERLAYS)}
    if not scenes:
        return StageReport([], rows_in=0)
    frames = read_frames(inputs.scenes.folder / scenes[0]["frames_file"])
    rows: list[Row] = []
    plans: list[Plan] = []
    rows_in = 0
    for scene in scenes:
        overlay = overlays.get(scene["scene_id"])
        if overlay is None:
            raise StageFailed(f"the overlays have no row for scene {scene['scene_id']}")
        if overlay["status"] != Status.OK:
            rows.append(_unfit(scene, overlay))
            rows_in += 1
            continue
        planned = _plan(scene, overlay, frames, settings)
        if not planned:
            rows.append(_too_short(scene, settings))
        plans += planned
        rows_in += max(1, len(planned))
    rows += [
        tables.rejected(*one.problem, **one.values()) for one in plans if one.problem is not None
    ]
    source = Source(inputs.video.path, Fields(scenes[0]["fields"]), frames)
    made, notes = make(source, [one for one in plans if one.problem is None], settings, out)
    return StageReport(rows + made, rows_in=rows_in, notes=notes)


def broken(inputs: ClipInputs, reason: Reason, detail: str) -> StageReport:
    """The rows of an episode at which the process died: one failed row per usable scene."""
    scenes = list(tables.usable(tables.read(inputs.scenes.path, tables.SCENES)))
    rows = [tables.failed(reason, detail, **no_clip(scene)) for scene in scenes]
    return StageReport(rows, rows_in=len(scenes))


STAGE = Stage(
    name="clips",
    title="Clips",
    description="Cut shots into clips of 81 frames at exactly 16 frames per second, "
    "verified by decoding.",
    row_noun="clips, and shots without one",
    phase=Phase.CURATION,
    upstream=("scenes", "overlays"),
    version=3,
    inputs=ClipInputs,
    settings=ClipSettings,
    table=tables.CLIPS,
    run=run,
    failed_rows=broken,
)


def _plan(scene: Row, overlay: Row, frames: Frames, settings: ClipSettings) -> list[Plan]:
    area = Rect(*(overlay[f"crop_{name}"] for name in ("x", "y", "width", "height")))
    shape = fit(area, settings.width, settings.height, settings.fit)
    try:
        return plan(scene, shape, frames, settings)
    except ValueError as error:
        raise StageFailed(f"the scenes and their frames do not belong together: {error}") from error


def _too_short(scene: Row, settings: ClipSettings) -> Row:
    seconds = (scene["end_pts"] - scene["start_pts"]) * Fraction(
        scene["time_base_num"], scene["time_base_den"]
    )
    needed = clip_duration() + 2 * exact(settings.margin)
    detail = f"{float(seconds):.3f} s long, {float(needed):.3f} s needed"
    return tables.rejected(Reason.SCENE_TOO_SHORT, detail, **no_clip(scene))


def _unfit(scene: Row, overlay: Row) -> Row:
    """The row of a scene without a usable rectangle."""
    if overlay["status"] == Status.REJECTED:
        return tables.rejected(Reason(overlay["reason"]), overlay["detail"], **no_clip(scene))
    detail = f"overlays: {overlay['reason']}: {overlay['detail']}"
    return tables.failed(Reason.UPSTREAM_FAILED, detail, **no_clip(scene))
