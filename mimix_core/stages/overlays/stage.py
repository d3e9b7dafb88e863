"""Stage ``overlays``: for each usable scene the rectangle that is kept, or why there is none.

One rectangle an episode: all frames that are looked at speak together, and what they say of the
bottom band and of black borders holds for every scene. Credits reject their scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Annotated

from PIL import Image

from mimix_core import tables
from mimix_core.domain import ids
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.media import Rect, UnreadableVideo, open_video, shown_rgb
from mimix_core.settings import OverlaySettings
from mimix_core.stages.overlays.credits import credit_scenes
from mimix_core.stages.overlays.frame_sampling import Target, frames_near, holds_a_clip, targets
from mimix_core.stages.overlays.letterbox_detection import lit_edges, picture
from mimix_core.stages.overlays.persistent_text import (
    PARTS,
    Sample,
    above,
    clear_scenes,
    overlay_lines,
)
from mimix_core.stages.overlays.text_detection import (
    Box,
    Detector,
    DetectorFailed,
    no_text,
    rapidocr,
    text_lines,
)
from mimix_core.tables import Reason, Row

_DETECTORS: dict[str, Detector] = {"none": no_text, "rapidocr": rapidocr}

_THREADS = 2


class OverlayInputs(FrozenModel):
    """One episode and its scenes."""

    unit: Annotated[str, ExcludeFromKey()]
    show: str
    video: FileRef
    scenes: TableRef


@dataclass(frozen=True)
class _Looks:
    """What was seen of an episode. ``unseen``: per scene the error that kept a frame away."""

    width: int
    height: int
    samples: Sequence[Sample]
    unseen: dict[int, UnreadableVideo]


def run(inputs: OverlayInputs, settings: OverlaySettings, out: Path) -> StageReport:
    """One row per usable scene."""
    scenes = _usable_scenes(inputs)
    blank = [_values(inputs, scene, settings.backend) for scene in scenes]
    try:
        looks = _look(inputs.video.path, scenes, settings, _DETECTORS[settings.backend])
        rows, overlays = _judge(scenes, blank, looks, settings)
        _save_frames(inputs.video.path, scenes, rows, looks.samples, overlays, out)
    except UnreadableVideo as error:
        rows = [tables.failed(error.reason, error.what, **values) for values in blank]
        return StageReport(rows, rows_in=len(scenes))
    except DetectorFailed as error:
        rows = [tables.failed(Reason.DETECTOR_FAILED, str(error), **values) for values in blank]
        return StageReport(rows, rows_in=len(scenes))
    notes = {"frames_looked_at": len(looks.samples), "scenes_hard_to_read": len(looks.unseen)}
    return StageReport(rows, rows_in=len(scenes), notes=notes)


def broken(inputs: OverlayInputs, reason: Reason, detail: str) -> StageReport:
    """The rows of an episode whose process died or hung: every usable scene failed."""
    scenes = _usable_scenes(inputs)
    rows = [tables.failed(reason, detail, **_values(inputs, scene, "")) for scene in scenes]
    return StageReport(rows, rows_in=len(scenes))


STAGE = Stage(
    name="overlays",
    title="Overlays",
    description="Detect burned-in subtitles, black borders and credits; choose the crop "
    "rectangle of each shot.",
    row_noun="shots",
    phase=Phase.CURATION,
    upstream=("scenes",),
    version=3,
    inputs=OverlayInputs,
    settings=OverlaySettings,
    table=tables.OVERLAYS,
    run=run,
    failed_rows=broken,
)


def _usable_scenes(inputs: OverlayInputs) -> list[Row]:
    """In the order of the episode."""
    scenes = tables.usable(tables.read(inputs.scenes.path, tables.SCENES))
    return sorted(scenes, key=lambda scene: int(scene["start_pts"]))


def _look(path: Path, scenes: Sequence[Row], settings: OverlaySettings, detect: Detector) -> _Looks:
    """Read the sampled frames of all scenes. Raises UnreadableVideo, DetectorFailed."""
    wanted = targets(scenes, settings.sampled_frames)
    samples: list[Sample] = []
    unseen: dict[int, UnreadableVideo] = {}
    if not wanted:
        return _Looks(0, 0, samples, unseen)
    start, end = scenes[0]["start_pts"], scenes[-1]["end_pts"]
    with open_video(path, threads=_THREADS) as video:
        geometry = video.info.geometry
        for done, (target, frame) in enumerate(frames_near(video, wanted), start=1):
            if isinstance(frame, UnreadableVideo):
                unseen[target.scene] = frame
                continue
            image = shown_rgb(frame, video.info)
            lines = text_lines(image, detect, frame.pts)
            part = (frame.pts - start) * PARTS // (end - start)
            edges = lit_edges(image, lines)
            samples.append(Sample(target.scene, part, frame.pts, lines, edges))
            progress.advance(done, len(wanted), "frames looked at")
    if not samples:
        raise next(iter(unseen.values()), UnreadableVideo("not one frame could be sampled"))
    return _Looks(geometry.width, geometry.height, samples, unseen)


def _judge(
    scenes: Sequence[Row], blank: Sequence[Row], looks: _Looks, settings: OverlaySettings
) -> tuple[list[Row], list[list[Box]]]:
    """The rows of all scenes, and the overlay lines of each sample."""
    width, height, samples = looks.width, looks.height, looks.samples
    overlays = overlay_lines(samples, width, height, settings)
    credited = credit_scenes(scenes, samples, overlays, height, settings)
    content = picture(width, height, [sample.edges for sample in samples])
    shared = above(
        content, [box for boxes in overlays for box in boxes], ceil(settings.margin * height)
    )
    clear = clear_scenes(samples, overlays)
    looked_at = {sample.scene for sample in samples}
    rows = []
    for index, (scene, empty) in enumerate(zip(scenes, blank, strict=True)):
        keep = content if index in clear else shared
        here = [
            (sample, boxes)
            for sample, boxes in zip(samples, overlays, strict=True)
            if sample.scene == index
        ]
        values = empty | {
            "width": width,
            "height": height,
            "sampled_pts": [sample.pts for sample, _ in here],
            "boxes": [
                {"pts": sample.pts, "box": list(box)} for sample, boxes in here for box in boxes
            ],
            **_crop(keep),
        }
        loss = 1 - keep.height / content.height
        if index not in looked_at and holds_a_clip(scene):
            error = looks.unseen.get(index, UnreadableVideo("no frame of the scene can be read"))
            rows.append(tables.failed(error.reason, error.what, **values))
        elif index in credited:
            rows.append(tables.rejected(Reason.SCENE_CREDITS, credited[index], **values))
        elif loss > settings.max_height_loss:
            detail = f"the text reaches {loss:.0%} up, {settings.max_height_loss:.0%} may be cut"
            rows.append(tables.rejected(Reason.CROP_TOO_DEEP, detail, **values))
        else:
            rows.append(tables.ok(**values))
    return rows, overlays


def _save_frames(
    path: Path,
    scenes: Sequence[Row],
    rows: Sequence[Row],
    samples: Sequence[Sample],
    overlays: Sequence[Sequence[Box]],
    out: Path,
) -> None:
    """For the report: the frame with most overlay lines (else the middle one), one of credits.

    Names them in ``frame_file`` of their rows. Raises UnreadableVideo when a frame that was there
    before does not come again.
    """
    if not samples:
        return
    most = max(range(len(samples)), key=lambda index: (len(overlays[index]), -index))
    chosen = {most if overlays[most] else len(samples) // 2}
    credit = [
        index
        for index, sample in enumerate(samples)
        if rows[sample.scene]["reason"] == Reason.SCENE_CREDITS
    ]
    if credit:
        chosen.add(max(credit, key=lambda index: (len(samples[index].lines), -index)))
    wanted = [
        Target(
            one.scene,
            one.pts,
            one.pts,
            scenes[one.scene]["start_pts"],
            scenes[one.scene]["end_pts"],
        )
        for one in (samples[index] for index in sorted(chosen))
    ]
    with open_video(path, threads=_THREADS) as video:
        for target, frame in frames_near(video, wanted):
            if isinstance(frame, UnreadableVideo):
                raise frame
            name = f"frame-{target.pts:010d}.jpg"
            Image.fromarray(shown_rgb(frame, video.info)).save(out / name, quality=85)
            rows[target.scene]["frame_file"] = name


def _values(inputs: OverlayInputs, scene: Row, backend: str) -> Row:
    """The columns of a scene of which nothing was seen."""
    return {
        "scene_id": scene["scene_id"],
        "episode_id": ids.episode_id(inputs.show, inputs.video.sha256),
        "backend": backend,
        "width": 0,
        "height": 0,
        "sampled_pts": [],
        "boxes": [],
        **_crop(Rect(0, 0, 0, 0)),
        "frame_file": "",
    }


def _crop(keep: Rect) -> Row:
    return {
        "crop_x": keep.x,
        "crop_y": keep.y,
        "crop_width": keep.width,
        "crop_height": keep.height,
    }
