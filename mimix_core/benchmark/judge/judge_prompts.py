"""The questions to a judge. What the questions about one video share goes first, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mimix_core.benchmark.judge.judge_inputs import CastMember
from mimix_core.benchmark.judge.rubric import HIGHEST, LOWEST, Aspect, Rubric
from mimix_core.domain.prompts import Prompt
from mimix_core.settings.judge_settings import JudgeSettings, JudgeVlmSettings
from mimix_core.vlm import Image, Message, Question, Text, Video, strict_schema

Parts = tuple[Text | Image | Video, ...]


class Rating(BaseModel):
    """The analysis is written before the score, which then has a reason."""

    model_config = ConfigDict(extra="forbid")

    analysis: str = Field(min_length=1)
    score: int = Field(ge=LOWEST, le=HIGHEST)


class Verdict(BaseModel):
    """The analysis is written before the winner."""

    model_config = ConfigDict(extra="forbid")

    analysis: str = Field(min_length=1)
    winner: Literal["first", "second", "tie"]


@dataclass(frozen=True)
class Desk:
    """What all questions of a run are made with. ``sheets``: name -> its sheet, None without."""

    rubric: Rubric
    settings: JudgeSettings
    vlm: JudgeVlmSettings
    cast: Mapping[str, CastMember]
    sheets: Mapping[str, bytes | None]

    def image(self, jpeg: bytes) -> Image:
        return Image(jpeg, detail=self.vlm.image_detail)


def rating(
    name: str, desk: Desk, prompt: Prompt, shown: Parts, aspect: Aspect, sample: int
) -> Question[Rating]:
    """Ask for the rating of one aspect of a video, ``shown`` as ``frames_shown`` gives it."""
    parts = (*_opening(desk, prompt), *_video("The video", desk, shown))
    closing = _asked(desk, prompt, aspect, sample)
    return _question(name, desk, desk.rubric.rules, (*parts, closing), Rating)


def comparison(
    name: str,
    desk: Desk,
    prompt: Prompt,
    shown: tuple[Parts, Parts],
    aspect: Aspect,
    sample: int,
) -> Question[Verdict]:
    """Ask which of two videos is better in one aspect; ``shown`` in the order they are shown in."""
    parts = list(_opening(desk, prompt))
    for number, one in enumerate(shown, 1):
        parts += _video(f"Video {number}", desk, one)
    closing = _asked(desk, prompt, aspect, sample)
    return _question(name, desk, desk.rubric.duel, (*parts, closing), Verdict)


def frames_shown(desk: Desk, jpegs: Sequence[bytes]) -> Parts:
    return tuple(desk.image(jpeg) for jpeg in jpegs)


def file_shown(desk: Desk, path: Path, sha256: str) -> Parts:
    return (Video(path, desk.settings.fps, sha256),)


def _opening(desk: Desk, prompt: Prompt) -> Parts:
    parts: list[Text | Image | Video] = []
    for name in prompt.characters:
        one = desk.cast[name]
        kind = "a cartoon" if one.style == "cartoon" else "live action"
        lines = [f"Reference sheet of {name}, from {one.show} ({kind})."]
        if one.description:
            lines.append(f"Looks: {one.description}")
        sheet = desk.sheets[name]
        if sheet is None:
            lines.append("There is no picture; go by what you know of the character.")
        parts.append(Text("\n".join(lines)))
        if sheet is not None:
            parts.append(desk.image(sheet))
    return (*parts, Text(f"The prompt that the video was generated from:\n{prompt.text()}"))


def _video(label: str, desk: Desk, shown: Parts) -> Parts:
    frames = sum(isinstance(part, Image) for part in shown)
    rate = f"{desk.settings.fps:g} a second"
    if not frames:
        return (Text(f"{label}:"), *shown)
    return (Text(f"{label}: {frames} frames, {rate}, in the order of time:"), *shown)


def _asked(desk: Desk, prompt: Prompt, aspect: Aspect, sample: int) -> Text:
    one = desk.rubric.of(aspect, len(prompt.characters))
    text = f"The aspect: {one.title}. {one.question.strip()}\n\nThe scale:\n{one.scale()}"
    if desk.settings.effective_samples > 1:
        # Each sample is a request, and so an answer, of its own.
        text += f"\n\nThis is reading {sample + 1} of {desk.settings.effective_samples}, made on its own."
    return Text(text)


def _question(name: str, desk: Desk, rules: str, parts: Parts, answer: type[Any]) -> Question[Any]:
    return Question(
        id=name,
        messages=(Message("system", (Text(rules.strip()),)), Message("user", parts)),
        answer=answer,
        schema=strict_schema(answer),
        max_output_tokens=desk.vlm.max_output_tokens,
        temperature=desk.vlm.temperature,
        reasoning_effort=desk.vlm.reasoning_effort,
    )
