"""The moving pictures of the page: clips, cut-outs, composites and generated videos."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from PIL.Image import Image

from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine import progress
from mimix_core.settings import ReportSettings
from mimix_core.stages.report import labels, thumbnails
from mimix_core.stages.report.labels import Words
from mimix_core.stages.report.run_tables import Entry, clip_of, one_by, take, time_base
from mimix_core.stages.report.thumbnails import Picture
from mimix_core.stages.report.training_curves import Shot

Item = TypeVar("Item")
View = TypeVar("View")

VIDEOS = "videos"
"""Folder beside the page for the videos it links to."""

PREVIEWS_A_PROMPT = 4
"""Moments of training that a prompt is shown at."""


@dataclass(frozen=True)
class VideoFile:
    """A whole video: its path relative to the page ("" when it was not copied) and its size."""

    path: str
    size: str


@dataclass(frozen=True)
class ClipView:
    """A clip on the contact sheet."""

    id: str
    show: str
    show_title: str
    style: str
    at: str
    picture: Picture
    caption: tuple[Words, ...]
    no_caption: str
    says: str


@dataclass(frozen=True)
class CutoutView:
    """A character in a clip, and the character alone (absent when there is no mask)."""

    character: str
    tone: int
    show_title: str
    how: str
    inside: Picture
    alone: Picture | None
    why: str
    detail: str


@dataclass(frozen=True)
class CompositeView:
    """From whom and where to the result."""

    character: str
    tone: int
    character_style: str
    source_show: str
    show: str
    style: str
    source: Picture
    cutout: Picture
    background: Picture
    result: Picture
    caption: tuple[Words, ...]
    video: VideoFile = VideoFile("", "")


@dataclass(frozen=True)
class SampleView:
    """A generated video."""

    prompt: tuple[Words, ...]
    category: str
    seed: int
    picture: Picture
    what: str
    video: VideoFile = VideoFile("", "")


@dataclass(frozen=True)
class PreviewView:
    """A prompt's video at one moment of training."""

    step: int
    seed: int
    prompt: tuple[Words, ...]
    picture: Picture


class Gallery:
    """Makes the page's pictures from the tables' files, and copies videos below ``out``."""

    def __init__(
        self,
        clips: Sequence[Entry],
        titles: Mapping[str, str],
        tones: Mapping[str, int],
        settings: ReportSettings,
        out: Path,
    ) -> None:
        self._clips = one_by(clips, "clip_id")
        self._titles = titles
        self._tones = tones
        self._settings = settings
        self._out = out
        # A clip can be on the contact sheet, have a cut-out and be in composites: decoded once.
        self._frames_of: dict[str, list[Image]] = {}
        self._picture_of: dict[str, Picture] = {}

    def clips(self, captions: Sequence[Entry], transcripts: Sequence[Entry]) -> list[ClipView]:
        """A contact sheet: every show and episode has its turn."""
        usable = [clip for clip in self._clips.values() if clip.ok]
        chosen = take(usable, self._settings.max_clips_shown, "show", "episode_id")
        caption_of, said_in = one_by(captions, "clip_id"), one_by(transcripts, "clip_id")

        def make(clip: Entry) -> ClipView:
            name = clip["clip_id"]
            return self._clip(clip, caption_of.get(name), said_in.get(name))

        return self._each(make, chosen, "clips")

    def _clip(self, clip: Entry, caption: Entry | None, transcript: Entry | None) -> ClipView:
        start = (clip["source_pts"][0] - clip["origin_pts"]) * time_base(clip)
        return ClipView(
            id=clip["clip_id"],
            show=clip["show"],
            show_title=self._title(clip["show"]),
            style=clip["style"],
            at=f"{clip.ref.unit}, {labels.clock(float(start))}",
            picture=self._clip_picture(clip),
            caption=self._words(caption["caption"]) if caption and caption.ok else (),
            no_caption="" if caption and caption.ok else _why(caption),
            says=transcript["text"] if transcript and transcript.ok else "",
        )

    def cutouts(self, cutouts: Sequence[Entry]) -> tuple[list[CutoutView], list[CutoutView]]:
        """Kept ones, and half as many that were not, of all characters."""
        limit = self._settings.max_cutouts_shown
        kept = take([c for c in cutouts if c.ok], limit, "character")
        refused = take([c for c in cutouts if not c.ok], limit // 2, "reason", "character")
        views = self._each(self._cutout, [*kept, *refused], "cut-outs")
        return views[: len(kept)], views[len(kept) :]

    def _cutout(self, cutout: Entry) -> CutoutView:
        clip = clip_of(self._clips, cutout["clip_id"], "cut-out")
        indices, images = self._indices(clip), self._clip_frames(clip)
        inside, alone = self._clip_picture(clip), None
        if cutout["file"]:
            masks = thumbnails.masks(cutout.path(), indices, images[0].size)
            marked = [thumbnails.outlined(*pair) for pair in zip(images, masks, strict=True)]
            inside = thumbnails.embed_moving(marked, _play(clip))
            alone = self._alone(clip, images, masks)
        elif cutout["boxes"]:
            # The mask was not kept; where it was is known.
            scale = images[0].width / clip["width"]
            marked = [
                thumbnails.boxed(image, [side * scale for side in cutout["boxes"][index]])
                for index, image in zip(indices, images, strict=True)
            ]
            inside = thumbnails.embed_moving(marked, _play(clip))
        return CutoutView(
            character=cutout["character"],
            tone=self._tones.get(cutout["character"], 0),
            show_title=self._title(cutout["show"]),
            how=f"{cutout['locator']}, {cutout['backend']}",
            inside=inside,
            alone=alone,
            why="" if cutout.ok else labels.reason(str(cutout["reason"])),
            detail=cutout["detail"] or "",
        )

    def composites(
        self,
        composites: Sequence[Entry],
        cutouts: Sequence[Entry],
        recaptions: Sequence[Entry],
    ) -> list[CompositeView]:
        """Source, cut-out, background and result."""
        usable = [row for row in composites if row.ok]
        chosen = take(usable, self._settings.max_composites_shown, "character", "show")
        cutout_of = one_by(cutouts, "cutout_id")
        caption_of = one_by(recaptions, "clip_id")

        def make(row: Entry) -> CompositeView:
            caption = caption_of.get(row["composite_id"])
            return self._composite(row, cutout_of[row["cutout_id"]], caption)

        views = self._each(make, chosen, "composites")
        return [
            replace(view, video=self._copy(row, f"composite-{number:02}"))
            for number, (view, row) in enumerate(zip(views, chosen, strict=True), start=1)
        ]

    def _composite(self, row: Entry, cutout: Entry, caption: Entry | None) -> CompositeView:
        source = clip_of(self._clips, row["source_clip_id"], "composite")
        background = clip_of(self._clips, row["background_clip_id"], "composite")
        images = self._clip_frames(source)
        masks = thumbnails.masks(cutout.path(), self._indices(source), images[0].size)
        return CompositeView(
            character=row["character"],
            tone=self._tones.get(row["character"], 0),
            character_style=row["character_style"],
            source_show=self._title(source["show"]),
            show=self._title(row["show"]),
            style=row["style"],
            source=self._clip_picture(source),
            cutout=self._alone(source, images, masks),
            background=self._clip_picture(background),
            result=thumbnails.embed_moving(self._frames(row, larger=2), _play(row)),
            caption=self._words(caption["caption"]) if caption and caption.ok else (),
        )

    def samples(self, samples: Sequence[Entry]) -> list[SampleView]:
        """Generated videos of all categories."""
        usable = [row for row in samples if row.ok]
        chosen = take(usable, self._settings.max_samples_shown, "category")
        views = self._each(self._sample, chosen, "generated videos")
        return [
            replace(view, video=self._copy(row, f"sample-{number:02}"))
            for number, (view, row) in enumerate(zip(views, chosen, strict=True), start=1)
        ]

    def _sample(self, row: Entry) -> SampleView:
        return SampleView(
            prompt=self._words(row["prompt"]),
            category=row["category"].replace("_", " "),
            seed=row["seed"],
            picture=thumbnails.embed_moving(self._frames(row), _play(row)),
            what=f"{row['frames']} frames, {row['width']} × {row['height']}",
        )

    def previews(self, shots: Sequence[Shot]) -> list[tuple[PreviewView, ...]]:
        """Each prompt's videos in the order of training: its first and last, and some between."""
        of: dict[tuple[str, int], list[Shot]] = {}
        for shot in shots:
            of.setdefault((shot.prompt, shot.seed), []).append(shot)
        rows = [
            [mine[index] for index in thumbnails.spread(len(mine), PREVIEWS_A_PROMPT)]
            for mine in list(of.values())[: self._settings.max_samples_shown]
        ]
        views = iter(self._each(self._preview, [s for row in rows for s in row], "previews"))
        return [tuple(next(views) for _ in row) for row in rows]

    def _preview(self, shot: Shot) -> PreviewView:
        indices = thumbnails.spread(shot.frames, self._settings.preview_frames)
        images = thumbnails.frames(
            shot.path, indices, min(shot.width, self._settings.preview_width)
        )
        return PreviewView(
            shot.step,
            shot.seed,
            self._words(shot.prompt),
            thumbnails.embed_moving(images, float(shot.frames / CLIP_RATE)),
        )

    def _each(self, make: Callable[[Item], View], items: Sequence[Item], note: str) -> list[View]:
        """``make`` of each item, in their order, several at a time."""
        views = []
        with ThreadPoolExecutor(self._settings.workers) as pool:
            for view in pool.map(make, items):
                views.append(view)
                progress.advance(len(views), len(items), note)
        return views

    def _indices(self, row: Entry) -> list[int]:
        """Which frames of the row's video a preview plays."""
        return thumbnails.spread(row["frames"], self._settings.preview_frames)

    def _frames(self, row: Entry, larger: int = 1) -> list[Image]:
        """These frames, at the width of a preview or ``larger`` times that."""
        width = min(row["width"], self._settings.preview_width * larger)
        return thumbnails.frames(row.path(), self._indices(row), width)

    def _clip_frames(self, clip: Entry) -> list[Image]:
        name = clip["clip_id"]
        if name not in self._frames_of:
            self._frames_of[name] = self._frames(clip)
        return self._frames_of[name]

    def _clip_picture(self, clip: Entry) -> Picture:
        name = clip["clip_id"]
        if name not in self._picture_of:
            self._picture_of[name] = thumbnails.embed_moving(self._clip_frames(clip), _play(clip))
        return self._picture_of[name]

    def _alone(self, clip: Entry, images: Sequence[Image], masks: Sequence[Image]) -> Picture:
        """The cut-out character, with only as much room around it as it needs."""
        box = thumbnails.tight_box(masks)
        alone = [
            thumbnails.cut_out(image, mask).crop(box)
            for image, mask in zip(images, masks, strict=True)
        ]
        return thumbnails.embed_moving(alone, _play(clip))

    def _copy(self, row: Entry, name: str) -> VideoFile:
        """Copy the row's video beside the page, unless it is too large."""
        source = row.path()
        length = source.stat().st_size
        size = f"{length / 1e6:.1f} MB" if length >= 1e5 else f"{length / 1e3:.0f} kB"
        if length > self._settings.max_video_bytes:
            return VideoFile("", size)
        path = f"{VIDEOS}/{name}{source.suffix}"
        (self._out / VIDEOS).mkdir(exist_ok=True)
        shutil.copyfile(source, self._out / path)
        return VideoFile(path, size)

    def _words(self, caption: str) -> tuple[Words, ...]:
        return labels.caption_words(caption, self._tones)

    def _title(self, show: str) -> str:
        return self._titles.get(show, show)


def _play(row: Entry) -> float:
    """Seconds that a clip, composite or sample plays."""
    return float(Fraction(row["frames"]) / CLIP_RATE)


def _why(caption: Entry | None) -> str:
    """Why a clip has no caption."""
    if caption is None:
        return "not captioned"
    return labels.reason(str(caption["reason"]))
