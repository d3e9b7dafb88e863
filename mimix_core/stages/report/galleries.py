"""Build the page's galleries of clips, cutouts, composites and generated videos."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from PIL.Image import Image

from mimix_core.engine import progress
from mimix_core.settings import ReportSettings
from mimix_core.stages.report import labels, thumbnails
from mimix_core.stages.report.gallery_views import (
    ClipView,
    CompositeView,
    CutoutView,
    LinkedVideo,
    PreviewView,
    SampleView,
)
from mimix_core.stages.report.labels import CaptionSpan
from mimix_core.stages.report.run_tables import (
    RunTable,
    TableEntry,
    get_clip,
    get_time_base,
    index_entries,
    select_evenly,
)
from mimix_core.stages.report.thumbnails import EmbeddedImage
from mimix_core.stages.report.training_curves import TrainingPreview
from mimix_core.tables import (
    CaptionRow,
    ClipRow,
    CompositeRow,
    CutoutRow,
    SampleRow,
    TranscriptRow,
)

Item = TypeVar("Item")
View = TypeVar("View")

VIDEOS_FOLDER = "videos"
"""Folder next to the page for the videos it links to."""

PREVIEWS_PER_PROMPT = 4
"""Training steps at which a prompt's preview is shown."""


class Gallery:
    """Builds previews from the tables' files, and copies videos below ``out``."""

    def __init__(
        self,
        clips: RunTable[ClipRow],
        titles: Mapping[str, str],
        colors: Mapping[str, int],
        settings: ReportSettings,
        frame_rate: int,
        out: Path,
    ) -> None:
        self._clips = clips
        self._titles = titles
        self._colors = colors
        self._settings = settings
        self._frame_rate = frame_rate
        self._out = out
        # A clip can appear as clip, cutout and composite source: decode it once.
        self._frame_cache: dict[str, list[Image]] = {}
        self._preview_cache: dict[str, EmbeddedImage] = {}

    def clip_views(
        self,
        captions: RunTable[CaptionRow],
        transcripts: RunTable[TranscriptRow],
    ) -> list[ClipView]:
        """Build views of clips, evenly over shows and episodes."""
        limit = self._settings.max_clips_shown
        selected = self._clips.select(limit, "show", "episode_id")
        names = [clip.row["clip_id"] for clip in selected]
        caption_of = index_entries(captions.find("clip_id", names), lambda row: row["clip_id"])
        spoken = transcripts.find("clip_id", names)
        transcript_of = index_entries(spoken, lambda row: row["clip_id"])

        def build(clip: TableEntry[ClipRow]) -> ClipView:
            clip_id = clip.row["clip_id"]
            return self._clip_view(clip, caption_of.get(clip_id), transcript_of.get(clip_id))

        views = self._build_views(build, selected, "clips")
        return [
            replace(view, video=self._copy_video(clip.path(clip.row["file"]), f"clip-{number:02}"))
            for number, (view, clip) in enumerate(zip(views, selected, strict=True), start=1)
        ]

    def _clip_view(
        self,
        clip: TableEntry[ClipRow],
        caption: TableEntry[CaptionRow] | None,
        transcript: TableEntry[TranscriptRow] | None,
    ) -> ClipView:
        row = clip.row
        start = (row["source_pts"][0] - row["origin_pts"]) * get_time_base(row)
        return ClipView(
            id=row["clip_id"],
            show=row["show"],
            show_title=self._show_title(row["show"]),
            style=row["style"],
            position=f"{clip.ref.unit}, {labels.format_clock(float(start))}",
            preview=self._clip_preview(clip),
            caption=self._caption_spans(caption),
            missing_caption="" if caption and caption.ok else _missing_caption_reason(caption),
            dialogue=transcript.row["text"] if transcript and transcript.ok else "",
        )

    def cutout_views(
        self, cutouts: RunTable[CutoutRow]
    ) -> tuple[list[CutoutView], list[CutoutView]]:
        """Build views of accepted cutouts, and of half as many rejected ones."""
        limit = self._settings.max_cutouts_shown
        accepted = cutouts.select(limit, "character")
        rejected = cutouts.select(limit // 2, "reason", "character", ok=False)
        selected = [*accepted, *rejected]
        clips = self._find_clips(cutout.row["clip_id"] for cutout in selected)

        def build(cutout: TableEntry[CutoutRow]) -> CutoutView:
            return self._cutout_view(cutout, get_clip(clips, cutout.row["clip_id"], "cutout"))

        views = self._build_views(build, selected, "cutouts")
        return views[: len(accepted)], views[len(accepted) :]

    def _find_clips(self, names: Iterable[str]) -> dict[str, TableEntry[ClipRow]]:
        return index_entries(self._clips.find("clip_id", set(names)), lambda row: row["clip_id"])

    def _cutout_view(self, cutout: TableEntry[CutoutRow], clip: TableEntry[ClipRow]) -> CutoutView:
        row = cutout.row
        indices, images = self._preview_indices(clip.row["frames"]), self._read_clip_frames(clip)
        in_clip, isolated = self._clip_preview(clip), None
        if row["file"]:
            masks = thumbnails.read_alpha_frames(cutout.path(row["file"]), indices, images[0].size)
            marked = [thumbnails.draw_outline(*pair) for pair in zip(images, masks, strict=True)]
            in_clip = thumbnails.embed_animation(marked, self._play_seconds(clip.row["frames"]))
            isolated = self._embed_isolated(clip, images, masks)
        elif row["boxes"]:
            # The mask was not stored, but its boxes are known.
            scale = images[0].width / clip.row["width"]
            marked = [
                thumbnails.draw_box(image, [side * scale for side in row["boxes"][index]])
                for index, image in zip(indices, images, strict=True)
            ]
            in_clip = thumbnails.embed_animation(marked, self._play_seconds(clip.row["frames"]))
        return CutoutView(
            character=row["character"],
            color=self._colors.get(row["character"], 0),
            show_title=self._show_title(row["show"]),
            backends=f"{row['locator']}, {row['backend']}",
            in_clip=in_clip,
            isolated=isolated,
            rejection="" if cutout.ok else labels.reason_label(str(row["reason"])),
            detail=row["detail"] or "",
        )

    def composite_views(
        self,
        composites: RunTable[CompositeRow],
        cutouts: RunTable[CutoutRow],
        recaptions: RunTable[CaptionRow],
    ) -> list[CompositeView]:
        """Build views of composites with source, cutout and background."""
        selected = composites.select(self._settings.max_composites_shown, "character", "show")
        rows = [composite.row for composite in selected]
        clips = self._find_clips(
            row[name] for row in rows for name in ("source_clip_id", "background_clip_id")
        )
        pasted = cutouts.find("cutout_id", {row["cutout_id"] for row in rows})
        cutout_of = index_entries(pasted, lambda row: row["cutout_id"])
        captioned = recaptions.find("clip_id", [row["composite_id"] for row in rows])
        caption_of = index_entries(captioned, lambda row: row["clip_id"])

        def build(composite: TableEntry[CompositeRow]) -> CompositeView:
            row = composite.row
            return self._composite_view(
                composite,
                cutout_of[row["cutout_id"]],
                get_clip(clips, row["source_clip_id"], "composite"),
                get_clip(clips, row["background_clip_id"], "composite"),
                caption_of.get(row["composite_id"]),
            )

        views = self._build_views(build, selected, "composites")
        return [
            replace(
                view,
                video=self._copy_video(
                    composite.path(composite.row["file"]), f"composite-{number:02}"
                ),
            )
            for number, (view, composite) in enumerate(zip(views, selected, strict=True), start=1)
        ]

    def _composite_view(
        self,
        composite: TableEntry[CompositeRow],
        cutout: TableEntry[CutoutRow],
        source: TableEntry[ClipRow],
        background: TableEntry[ClipRow],
        caption: TableEntry[CaptionRow] | None,
    ) -> CompositeView:
        row = composite.row
        images = self._read_clip_frames(source)
        masks = thumbnails.read_alpha_frames(
            cutout.path(cutout.row["file"]),
            self._preview_indices(source.row["frames"]),
            images[0].size,
        )
        result = self._read_frames(
            composite.path(row["file"]), row["frames"], row["width"], enlarge=2
        )
        return CompositeView(
            character=row["character"],
            color=self._colors.get(row["character"], 0),
            character_style=row["character_style"],
            source_show=self._show_title(source.row["show"]),
            show=self._show_title(row["show"]),
            style=row["style"],
            source=self._clip_preview(source),
            cutout=self._embed_isolated(source, images, masks),
            background=self._clip_preview(background),
            result=thumbnails.embed_animation(result, self._play_seconds(row["frames"])),
            caption=self._caption_spans(caption),
        )

    def sample_views(self, samples: Sequence[TableEntry[SampleRow]]) -> list[SampleView]:
        """Build views of generated videos, evenly over categories."""
        usable = [sample for sample in samples if sample.ok]
        selected = select_evenly(
            usable, self._settings.max_samples_shown, lambda row: row["category"]
        )
        views = self._build_views(self._sample_view, selected, "generated videos")
        return [
            replace(
                view,
                video=self._copy_video(sample.path(sample.row["file"]), f"sample-{number:02}"),
            )
            for number, (view, sample) in enumerate(zip(views, selected, strict=True), start=1)
        ]

    def _sample_view(self, sample: TableEntry[SampleRow]) -> SampleView:
        row = sample.row
        frames = self._read_frames(sample.path(row["file"]), row["frames"], row["width"])
        return SampleView(
            prompt=labels.split_caption(row["prompt"], self._colors),
            category=row["category"].replace("_", " "),
            seed=row["seed"],
            preview=thumbnails.embed_animation(frames, self._play_seconds(row["frames"])),
            format=f"{row['frames']} frames, {row['width']} × {row['height']}",
        )

    def preview_views(self, previews: Sequence[TrainingPreview]) -> list[tuple[PreviewView, ...]]:
        """Build views of each prompt's previews in training order, including first and last."""
        by_prompt: dict[tuple[str, int], list[TrainingPreview]] = {}
        for preview in previews:
            by_prompt.setdefault((preview.prompt, preview.seed), []).append(preview)
        rows = [
            [group[index] for index in thumbnails.spaced_indices(len(group), PREVIEWS_PER_PROMPT)]
            for group in list(by_prompt.values())[: self._settings.max_samples_shown]
        ]
        selected = [preview for row in rows for preview in row]
        views = iter(self._build_views(self._preview_view, selected, "previews"))
        return [tuple(next(views) for _ in row) for row in rows]

    def _preview_view(self, preview: TrainingPreview) -> PreviewView:
        return PreviewView(
            preview.step,
            preview.seed,
            labels.split_caption(preview.prompt, self._colors),
            thumbnails.embed_animation(
                self._read_frames(preview.path, preview.frames, preview.width),
                self._play_seconds(preview.frames),
            ),
        )

    def _build_views(
        self, build: Callable[[Item], View], items: Sequence[Item], note: str
    ) -> list[View]:
        """Call ``build`` for each item in parallel; returns the views in the items' order."""
        views = []
        with ThreadPoolExecutor(self._settings.workers) as pool:
            for view in pool.map(build, items):
                views.append(view)
                progress.report_progress(len(views), len(items), note)
        return views

    def _preview_indices(self, frames: int) -> list[int]:
        """Return the indices of the frames that a preview plays."""
        return thumbnails.spaced_indices(frames, self._settings.preview_frames)

    def _read_frames(self, path: Path, frames: int, width: int, enlarge: int = 1) -> list[Image]:
        """Read a video's preview frames, scaled to ``enlarge`` times the preview width."""
        return thumbnails.read_thumbnail_frames(
            path,
            self._preview_indices(frames),
            min(width, self._settings.preview_width * enlarge),
        )

    def _read_clip_frames(self, clip: TableEntry[ClipRow]) -> list[Image]:
        row = clip.row
        if row["clip_id"] not in self._frame_cache:
            frames = self._read_frames(clip.path(row["file"]), row["frames"], row["width"])
            self._frame_cache[row["clip_id"]] = frames
        return self._frame_cache[row["clip_id"]]

    def _clip_preview(self, clip: TableEntry[ClipRow]) -> EmbeddedImage:
        clip_id = clip.row["clip_id"]
        if clip_id not in self._preview_cache:
            self._preview_cache[clip_id] = thumbnails.embed_animation(
                self._read_clip_frames(clip), self._play_seconds(clip.row["frames"])
            )
        return self._preview_cache[clip_id]

    def _embed_isolated(
        self, clip: TableEntry[ClipRow], images: Sequence[Image], masks: Sequence[Image]
    ) -> EmbeddedImage:
        """Embed the isolated character, cropped to the bounds of its masks."""
        bounds = thumbnails.bounding_box(masks)
        isolated = [
            thumbnails.apply_alpha(image, mask).crop(bounds)
            for image, mask in zip(images, masks, strict=True)
        ]
        return thumbnails.embed_animation(isolated, self._play_seconds(clip.row["frames"]))

    def _copy_video(self, source: Path, name: str) -> LinkedVideo:
        """Copy a video next to the page, unless it is too large."""
        length = source.stat().st_size
        size = f"{length / 1e6:.1f} MB" if length >= 1e5 else f"{length / 1e3:.0f} kB"
        if length > self._settings.max_video_bytes:
            return LinkedVideo("", size)
        path = f"{VIDEOS_FOLDER}/{name}{source.suffix}"
        (self._out / VIDEOS_FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(source, self._out / path)
        return LinkedVideo(path, size)

    def _play_seconds(self, frames: int) -> float:
        """Return the duration of a clip, composite or sample in seconds."""
        return frames / self._frame_rate

    def _caption_spans(self, caption: TableEntry[CaptionRow] | None) -> tuple[CaptionSpan, ...]:
        if caption is None or not caption.ok:
            return ()
        return labels.split_caption(caption.row["caption"], self._colors)

    def _show_title(self, show: str) -> str:
        return self._titles.get(show, show)


def _missing_caption_reason(caption: TableEntry[CaptionRow] | None) -> str:
    if caption is None:
        return "not captioned"
    return labels.reason_label(str(caption.row["reason"]))
