"""Plan what is judged: every system's video of every prompt, and the negative controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from mimix_core.benchmark.judge import judge_prompts
from mimix_core.benchmark.judge.judge_frames import build_reference_sheet, sample_video_jpegs
from mimix_core.benchmark.judge.judge_inputs import CastMember, JudgeInputs
from mimix_core.benchmark.judge.judge_prompts import MessageParts, PromptContext
from mimix_core.benchmark.judge.negative_controls import (
    CONTROL_ASPECTS,
    CONTROLS,
    Control,
    swap_characters,
    write_control_video,
)
from mimix_core.benchmark.judge.rubric import ASPECTS, Aspect, load_rubric
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine.artifacts import FileRef, digest_file
from mimix_core.errors import BadInput
from mimix_core.media.images import JpegOptions, evenly_spaced_indices
from mimix_core.settings.judge_settings import JudgeSettings, JudgeVlmSettings

MIN_CONTROL_SIZE = 832
"""Longer side of a control video's frames in pixels, unless the judge is shown larger ones."""

CACHED_VIDEOS = 4
"""Videos whose JPEGs are cached in memory: questions about the same video are consecutive."""


@dataclass(frozen=True)
class EvaluationItem:
    """A video, or a negative control made from it, and the prompt it is judged against.

    ``video`` is None when the system has none; ``missing_reason`` then says why.
    """

    system: str
    prompt: VideoPrompt
    video: FileRef | None
    missing_reason: str = ""
    control: Control | None = None

    @property
    def id(self) -> str:
        original = f"{self.system}/{self.prompt.id}"
        return original if self.control is None else f"{original}~{self.control}"

    @property
    def aspects(self) -> tuple[Aspect, ...]:
        return ASPECTS if self.control is None else (CONTROL_ASPECTS[self.control],)


def list_evaluation_items(inputs: JudgeInputs) -> list[EvaluationItem]:
    """List each system's video of each prompt, including missing ones."""
    return [
        EvaluationItem(
            system.name,
            prompt,
            system.videos.get(prompt.id),
            system.missing.get(prompt.id, "the system has no video of this prompt"),
        )
        for prompt in inputs.prompts
        for system in inputs.systems
    ]


def list_control_items(inputs: JudgeInputs, settings: JudgeSettings) -> list[EvaluationItem]:
    """List the negative controls of some videos, spread evenly over the prompts.

    Only mode strict has any. The identity control is omitted for a prompt when the cast has too few
    other characters to swap in.
    """
    existing = [item for item in list_evaluation_items(inputs) if item.video is not None]
    if settings.mode != "strict" or settings.negative_control_videos == 0 or not existing:
        return []
    items = []
    for number in evenly_spaced_indices(len(existing), settings.negative_control_videos):
        original = existing[number]
        for control in CONTROLS:
            prompt: VideoPrompt | None = original.prompt
            if control == "swapped-identities":
                prompt = swap_characters(original.prompt, inputs.cast)
            if prompt is not None:
                items.append(
                    EvaluationItem(original.system, prompt, original.video, control=control)
                )
    return items


RatingTask = tuple[EvaluationItem, Aspect, int]
"""Video, aspect and sample number."""


def list_rating_tasks(inputs: JudgeInputs, settings: JudgeSettings) -> dict[str, RatingTask]:
    """List all ratings of a run by id: each video and negative control, aspect and sample."""
    items = (*list_evaluation_items(inputs), *list_control_items(inputs, settings))
    return {
        f"{item.id}/{settings.mode}/{aspect}/{sample}": (item, aspect, sample)
        for item in items
        for aspect in item.aspects
        for sample in range(settings.effective_samples)
    }


def validate_judge_inputs(inputs: JudgeInputs) -> None:
    """Raise BadInput for duplicate system names and for characters missing in the library."""
    names = [system.name for system in inputs.systems]
    if len(set(names)) < len(names):
        raise BadInput("two systems have the same name", fix="Give each system a unique name.")
    known = {member.name for member in inputs.cast}
    unknown = sorted({name for p in inputs.prompts for name in p.characters} - known)
    if unknown:
        raise BadInput(
            f"the library has no character {', '.join(unknown)}",
            fix="Add them with a description and reference images, which the judge is shown.",
        )


def load_prompt_context(
    inputs: JudgeInputs, settings: JudgeSettings, vlm: JudgeVlmSettings
) -> PromptContext:
    """Load what all questions share: rubric, cast and reference sheets.

    Raises BadInput for an unreadable rubric or reference image, and as ``validate_judge_inputs``.
    """
    validate_judge_inputs(inputs)
    names = {name for prompt in inputs.prompts for name in prompt.characters}
    for item in list_control_items(inputs, settings):
        names |= set(item.prompt.characters)
    cast: dict[str, CastMember] = {one.name: one for one in inputs.cast if one.name in names}
    options = JpegOptions(settings.reference_sheet_size, settings.jpeg_quality)
    return PromptContext(
        rubric=load_rubric(inputs.rubric.path),
        settings=settings,
        vlm=vlm,
        cast=cast,
        reference_sheets={name: build_reference_sheet(one, options) for name, one in cast.items()},
    )


class JudgeVideoLoader:
    """Loads videos as message parts for the judge; writes negative controls below ``folder``."""

    def __init__(self, context: PromptContext, folder: Path) -> None:
        self._context, self._folder = context, folder
        self._jpegs = lru_cache(maxsize=CACHED_VIDEOS)(self._decode_jpegs)

    def load_parts(self, item: EvaluationItem) -> MessageParts:
        """Load the video of an item that has one. Raises UnreadableVideo, EncodeFailed."""
        assert item.video is not None
        path = item.video.path
        corrupted = None
        if item.control is not None and item.control != "swapped-identities":
            corrupted = self._folder / item.system / f"{item.prompt.id}.{item.control}.mp4"
            if not corrupted.is_file():
                max_side = max(MIN_CONTROL_SIZE, self._context.settings.image_size)
                write_control_video(item.control, path, corrupted, max_side=max_side)
            path = corrupted
        if self._context.settings.visual_input == "video":
            sha256 = item.video.sha256 if corrupted is None else digest_file(corrupted)
            return judge_prompts.build_video_file_parts(self._context, path, sha256)
        return judge_prompts.build_frame_parts(self._context, self._jpegs(path))

    def _decode_jpegs(self, path: Path) -> Sequence[bytes]:
        settings = self._context.settings
        return sample_video_jpegs(
            path,
            Fraction(settings.fps),
            JpegOptions(settings.image_size, settings.jpeg_quality),
            Fraction(settings.max_video_seconds),
        )
