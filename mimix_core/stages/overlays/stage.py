"""Stage ``overlays``: compute the crop rectangle of each usable scene, or why it has none.

The evidence of all sampled frames about the bottom band and black borders is combined and applies
to every scene; a scene has a rectangle of its own where the borders change, and where text outside
of the bottom band is cropped. Credits reject their scene.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from PIL import Image

from mimix_core import tables
from mimix_core.domain import ids
from mimix_core.domain.timeline import CLIP_FRAMES, CLIP_RATE, clip_duration
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.media import Rect, UnreadableVideo, open_video, to_display_rgb
from mimix_core.settings import OverlaySettings
from mimix_core.stages.overlays.credits import detect_credits
from mimix_core.stages.overlays.frame_sampling import (
    SamplingTarget,
    fits_clip,
    plan_sampling_targets,
    read_target_frames,
)
from mimix_core.stages.overlays.letterbox_detection import (
    detect_content_edges,
    estimate_content_rect,
    estimate_scene_rects,
)
from mimix_core.stages.overlays.persistent_text import (
    EPISODE_PARTS,
    SampledFrame,
    find_overlay_free_scenes,
    find_overlay_text,
)
from mimix_core.stages.overlays.remaining_text import find_recurring_text
from mimix_core.stages.overlays.scene_crop import choose_scene_crop
from mimix_core.stages.overlays.text_detection import (
    PixelBox,
    TextDetectionError,
    TextDetector,
    detect_no_text,
    detect_text,
    detect_text_rapidocr,
)
from mimix_core.tables import Reason, Row, SceneRow

_DETECTORS: dict[str, TextDetector] = {"none": detect_no_text, "rapidocr": detect_text_rapidocr}

_THREADS = 2


class OverlayInputs(FrozenModel):
    """One episode and its scenes.

    ``clip_frames``, ``clip_rate`` (frames per second): of the clips that will be cut from them; a
    shorter scene needs no frames of its own.
    """

    unit: Annotated[str, ExcludeFromKey()]
    show: str
    video: FileRef
    scenes: TableRef
    clip_frames: int = CLIP_FRAMES
    clip_rate: Annotated[int, OmitDefault()] = int(CLIP_RATE)


@dataclass(frozen=True)
class _EpisodeSamples:
    """The sampled frames of an episode. ``errors``: by scene, why a frame could not be read."""

    width: int
    height: int
    samples: Sequence[SampledFrame]
    errors: dict[int, UnreadableVideo]


def run(inputs: OverlayInputs, settings: OverlaySettings, out: Path) -> StageReport:
    """Return one row per usable scene."""
    scenes = _usable_scenes(inputs)
    empty_rows = [_empty_columns(inputs, scene, settings.backend) for scene in scenes]
    clip_seconds = clip_duration(inputs.clip_frames, Fraction(inputs.clip_rate))
    detect = _DETECTORS[settings.backend]
    try:
        episode = _sample_episode(inputs.video.path, scenes, clip_seconds, settings, detect)
        rows, overlays = _build_rows(scenes, empty_rows, episode, clip_seconds, settings)
        _save_frames(inputs.video.path, scenes, rows, episode.samples, overlays, out)
    except UnreadableVideo as error:
        rows = [tables.failed(error.reason, error.what, **values) for values in empty_rows]
        return StageReport(rows, rows_in=len(scenes))
    except TextDetectionError as error:
        rows = [
            tables.failed(Reason.DETECTOR_FAILED, str(error), **values) for values in empty_rows
        ]
        return StageReport(rows, rows_in=len(scenes))
    notes = {"frames_looked_at": len(episode.samples), "scenes_hard_to_read": len(episode.errors)}
    return StageReport(rows, rows_in=len(scenes), notes=notes)


def failed_rows(
    inputs: OverlayInputs, _settings: OverlaySettings, reason: Reason, detail: str
) -> StageReport:
    """Return the rows of an episode whose process died or hung: every usable scene failed."""
    scenes = _usable_scenes(inputs)
    rows = [tables.failed(reason, detail, **_empty_columns(inputs, scene, "")) for scene in scenes]
    return StageReport(rows, rows_in=len(scenes))


STAGE = Stage(
    name="overlays",
    title="Overlays",
    description="Detect burned-in subtitles, black borders and credits; choose the crop "
    "rectangle of each shot.",
    row_noun="shots",
    phase=Phase.CURATION,
    upstream=("scenes",),
    version=5,
    inputs=OverlayInputs,
    settings=OverlaySettings,
    table=tables.OVERLAYS,
    run=run,
    failed_rows=failed_rows,
)


def _usable_scenes(inputs: OverlayInputs) -> list[SceneRow]:
    """Return the usable scenes in the order of the episode."""
    scenes = tables.usable(tables.read(inputs.scenes.path, tables.SCENES))
    return sorted(scenes, key=lambda scene: scene["start_pts"])


def _sample_episode(
    path: Path,
    scenes: Sequence[SceneRow],
    clip_seconds: Fraction,
    settings: OverlaySettings,
    detect: TextDetector,
) -> _EpisodeSamples:
    """Read the sampled frames of all scenes. Raises UnreadableVideo, TextDetectionError."""
    targets = plan_sampling_targets(scenes, settings.sampled_frames, clip_seconds)
    samples: list[SampledFrame] = []
    errors: dict[int, UnreadableVideo] = {}
    if not targets:
        return _EpisodeSamples(0, 0, samples, errors)
    start, end = scenes[0]["start_pts"], scenes[-1]["end_pts"]
    with open_video(path, threads=_THREADS, seekable=scenes[0]["seekable"]) as video:
        geometry = video.info.geometry
        for done, (target, frame) in enumerate(read_target_frames(video, targets), start=1):
            if isinstance(frame, UnreadableVideo):
                errors[target.scene] = frame
                continue
            image = to_display_rgb(frame, video.info)
            lines, others = detect_text(image, detect, frame.pts)
            part = (frame.pts - start) * EPISODE_PARTS // (end - start)
            edges = detect_content_edges(image, lines)
            samples.append(SampledFrame(target.scene, part, frame.pts, lines, edges, others))
            progress.report_progress(done, len(targets), "frames sampled")
    if not samples:
        raise next(iter(errors.values()), UnreadableVideo("not one frame could be sampled"))
    return _EpisodeSamples(geometry.width, geometry.height, samples, errors)


def _build_rows(
    scenes: Sequence[SceneRow],
    empty_rows: Sequence[Row],
    episode: _EpisodeSamples,
    clip_seconds: Fraction,
    settings: OverlaySettings,
) -> tuple[list[Row], list[list[PixelBox]]]:
    """Return the rows of all scenes and the overlay lines of each sample."""
    width, height, samples = episode.width, episode.height, episode.samples
    overlays = find_overlay_text(samples, width, height, settings)
    credits_evidence = detect_credits(scenes, samples, overlays, height, settings)
    content = estimate_content_rect(width, height, [sample.edges for sample in samples])
    by_scene: dict[int, list[int]] = {}
    for number, sample in enumerate(samples):
        by_scene.setdefault(sample.scene, []).append(number)
    scene_rects = estimate_scene_rects(
        width,
        height,
        content,
        {scene: [samples[n].edges for n in numbers] for scene, numbers in by_scene.items()},
    )
    subtitles = [box for boxes in overlays for box in boxes]
    overlay_free = find_overlay_free_scenes(samples, overlays)
    recurring = find_recurring_text(samples, overlays, width, height, settings)
    rows = []
    for index, (scene, empty) in enumerate(zip(scenes, empty_rows, strict=True)):
        area = scene_rects.get(index, content)
        cropped_boxes = [] if index in overlay_free else subtitles
        numbers = by_scene.get(index, [])
        crop = choose_scene_crop(
            area,
            cropped_boxes,
            [(samples[n], overlays[n], recurring.fixed[n], recurring.moving[n]) for n in numbers],
            recurring.everywhere,
            height,
            settings,
        )
        values = empty | {
            "width": width,
            "height": height,
            "sampled_pts": [samples[n].pts for n in numbers],
            "boxes": _box_column((samples[n].pts, overlays[n]) for n in numbers),
            "remaining_boxes": _box_column(crop.remaining),
            "text_remains": crop.text_remains,
            **_crop_columns(crop.rect),
        }
        if not numbers and fits_clip(scene, clip_seconds):
            error = episode.errors.get(index, UnreadableVideo("no frame of the scene can be read"))
            rows.append(tables.failed(error.reason, error.what, **values))
        elif index in credits_evidence:
            rows.append(tables.rejected(Reason.SCENE_CREDITS, credits_evidence[index], **values))
        elif crop.rejection is not None:
            rows.append(tables.rejected(*crop.rejection, **values))
        else:
            rows.append(tables.ok(**values))
    return rows, overlays


def _box_column(boxes: Iterable[tuple[int, Sequence[PixelBox]]]) -> list[Row]:
    return [{"pts": pts, "box": list(box)} for pts, found in boxes for box in found]


def _save_frames(
    path: Path,
    scenes: Sequence[SceneRow],
    rows: Sequence[Row],
    samples: Sequence[SampledFrame],
    overlays: Sequence[Sequence[PixelBox]],
    out: Path,
) -> None:
    """Save frames for the report: that with most overlay lines (or the middle), one of credits.

    Sets ``frame_file`` of their rows. Raises UnreadableVideo when a frame that could be sampled
    before cannot be read again.
    """
    if not samples:
        return
    most = max(range(len(samples)), key=lambda index: (len(overlays[index]), -index))
    selected = {most if overlays[most] else len(samples) // 2}
    credits_samples = [
        index
        for index, sample in enumerate(samples)
        if rows[sample.scene]["reason"] == Reason.SCENE_CREDITS
    ]
    if credits_samples:
        selected.add(max(credits_samples, key=lambda index: (len(samples[index].lines), -index)))
    targets = [
        SamplingTarget(
            sample.scene,
            sample.pts,
            sample.pts,
            scenes[sample.scene]["start_pts"],
            scenes[sample.scene]["end_pts"],
        )
        for sample in (samples[index] for index in sorted(selected))
    ]
    with open_video(path, threads=_THREADS, seekable=scenes[0]["seekable"]) as video:
        for target, frame in read_target_frames(video, targets):
            if isinstance(frame, UnreadableVideo):
                raise frame
            name = f"frame-{target.pts:010d}.jpg"
            Image.fromarray(to_display_rgb(frame, video.info)).save(out / name, quality=85)
            rows[target.scene]["frame_file"] = name


def _empty_columns(inputs: OverlayInputs, scene: SceneRow, backend: str) -> Row:
    """Return the columns of a scene without sampled frames."""
    return {
        "scene_id": scene["scene_id"],
        "episode_id": ids.episode_id(inputs.show, inputs.video.sha256),
        "backend": backend,
        "width": 0,
        "height": 0,
        "sampled_pts": [],
        "boxes": [],
        "remaining_boxes": [],
        "text_remains": "",
        **_crop_columns(Rect(0, 0, 0, 0)),
        "frame_file": "",
    }


def _crop_columns(crop: Rect) -> Row:
    return {
        "crop_x": crop.x,
        "crop_y": crop.y,
        "crop_width": crop.width,
        "crop_height": crop.height,
    }
