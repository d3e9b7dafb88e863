"""What is to be judged: every system's video of every prompt, and the negative controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from mimix_core.benchmark.judge import judge_prompts
from mimix_core.benchmark.judge.judge_frames import sheet_jpeg, video_jpegs
from mimix_core.benchmark.judge.judge_inputs import CastMember, JudgeInputs
from mimix_core.benchmark.judge.judge_prompts import Desk, Parts
from mimix_core.benchmark.judge.negative_controls import BREAKS, CONTROLS, Control, make, swapped
from mimix_core.benchmark.judge.rubric import ASPECTS, Aspect, read_rubric
from mimix_core.domain.prompts import Prompt
from mimix_core.engine.artifacts import FileRef, digest_file
from mimix_core.errors import BadInput
from mimix_core.media.images import PictureSize, evenly
from mimix_core.settings.judge_settings import JudgeSettings, JudgeVlmSettings

CONTROL_SIDE = 832
"""Longer side of a control's frames, or what the judge is shown, if that is more."""

PICTURES_KEPT = 4
"""Videos whose frames stay in memory: questions about one video follow each other."""


@dataclass(frozen=True)
class Subject:
    """A video, or a spoilt version of it, and the prompt it is judged by.

    ``video`` is None where the system has none, and ``absent`` says why.
    """

    system: str
    prompt: Prompt
    video: FileRef | None
    absent: str = ""
    control: Control | None = None

    @property
    def id(self) -> str:
        original = f"{self.system}/{self.prompt.id}"
        return original if self.control is None else f"{original}~{self.control}"

    @property
    def aspects(self) -> tuple[Aspect, ...]:
        return ASPECTS if self.control is None else (BREAKS[self.control],)


def subjects(inputs: JudgeInputs) -> list[Subject]:
    """Each system's video of each prompt, there or not."""
    return [
        Subject(
            system.name,
            prompt,
            system.videos.get(prompt.id),
            system.absent.get(prompt.id, "the system has no video of this prompt"),
        )
        for prompt in inputs.prompts
        for system in inputs.systems
    ]


def controls(inputs: JudgeInputs, settings: JudgeSettings) -> list[Subject]:
    """The negative controls of some videos, evenly over the prompts; none in mode paper.

    A prompt for which the cast has nobody to swap in goes without that control.
    """
    there = [one for one in subjects(inputs) if one.video is not None]
    if settings.mode == "paper" or settings.negative_control_videos == 0 or not there:
        return []
    found = []
    for number in evenly(len(there), settings.negative_control_videos):
        original = there[number]
        for control in CONTROLS:
            prompt: Prompt | None = original.prompt
            if control == "swapped-identities":
                prompt = swapped(original.prompt, inputs.cast)
            if prompt is not None:
                found.append(Subject(original.system, prompt, original.video, control=control))
    return found


def check(inputs: JudgeInputs) -> None:
    """Raises BadInput for systems of one name, and for characters that the library has not."""
    names = [system.name for system in inputs.systems]
    if len(set(names)) < len(names):
        raise BadInput("two systems have one name", fix="Give each its own name.")
    known = {one.name for one in inputs.cast}
    unknown = sorted({name for p in inputs.prompts for name in p.characters} - known)
    if unknown:
        raise BadInput(
            f"the library has no character {', '.join(unknown)}",
            fix="Add them with a description and references: the judge is shown their looks.",
        )


def desk(inputs: JudgeInputs, settings: JudgeSettings, vlm: JudgeVlmSettings) -> Desk:
    """What all questions are made with. Raises BadInput for a rubric or reference not readable."""
    check(inputs)
    shown = {name for prompt in inputs.prompts for name in prompt.characters}
    shown |= {name for one in controls(inputs, settings) for name in one.prompt.characters}
    cast: dict[str, CastMember] = {one.name: one for one in inputs.cast if one.name in shown}
    size = PictureSize(settings.reference_sheet_size, settings.jpeg_quality)
    return Desk(
        rubric=read_rubric(inputs.rubric.path),
        settings=settings,
        vlm=vlm,
        cast=cast,
        sheets={name: sheet_jpeg(one, size) for name, one in cast.items()},
    )


class Screen:
    """Shows subjects' videos to the judge; writes spoilt versions below ``folder``."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self._desk, self._folder = desk, folder
        self._jpegs = lru_cache(maxsize=PICTURES_KEPT)(self._decoded)

    def shown(self, subject: Subject) -> Parts:
        """Raises UnreadableVideo, EncodeFailed. The subject has a video."""
        assert subject.video is not None
        path = subject.video.path
        made = None
        if subject.control is not None and subject.control != "swapped-identities":
            made = self._folder / subject.system / f"{subject.prompt.id}.{subject.control}.mp4"
            if not made.is_file():
                side = max(CONTROL_SIDE, self._desk.settings.image_size)
                make(subject.control, path, made, side=side)
            path = made
        if self._desk.settings.visual_input == "video":
            sha256 = subject.video.sha256 if made is None else digest_file(made)
            return judge_prompts.file_shown(self._desk, path, sha256)
        return judge_prompts.frames_shown(self._desk, self._jpegs(path))

    def _decoded(self, path: Path) -> Sequence[bytes]:
        settings = self._desk.settings
        return video_jpegs(
            path,
            Fraction(settings.fps),
            PictureSize(settings.image_size, settings.jpeg_quality),
            Fraction(settings.max_video_seconds),
        )
