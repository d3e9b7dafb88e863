"""Build the questions to a judge.

The parts that all questions about one video share come first, byte for byte, so that providers
bill them as cached input. What strangers wrote is in data blocks. Changing any text here, the
docstrings of the two answer models included (providers receive them as schema descriptions),
invalidates all cached answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mimix_core.benchmark.judge.judge_inputs import CastMember
from mimix_core.benchmark.judge.rubric import MAX_SCORE, MIN_SCORE, Aspect, Rubric
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.settings.judge_settings import JudgeSettings, JudgeVlmSettings
from mimix_core.vlm import ChatMessage, ImagePart, TextPart, VideoPart, VlmRequest, strict_schema
from mimix_core.vlm.data_blocks import DATA_RULE, data_block

MessageParts = tuple[TextPart | ImagePart | VideoPart, ...]


class Rating(BaseModel):
    """The analysis is written before the score, which then has a reason."""

    model_config = ConfigDict(extra="forbid")

    analysis: str = Field(min_length=1)
    score: int = Field(ge=MIN_SCORE, le=MAX_SCORE)


class Verdict(BaseModel):
    """The analysis is written before the winner."""

    model_config = ConfigDict(extra="forbid")

    analysis: str = Field(min_length=1)
    winner: Literal["first", "second", "tie"]


@dataclass(frozen=True)
class PromptContext:
    """What all questions of a run share. ``reference_sheets``: character -> JPEG, None without."""

    rubric: Rubric
    settings: JudgeSettings
    vlm: JudgeVlmSettings
    cast: Mapping[str, CastMember]
    reference_sheets: Mapping[str, bytes | None]

    def build_image(self, jpeg: bytes) -> ImagePart:
        return ImagePart(jpeg, detail=self.vlm.image_detail)


def build_rating_question(
    name: str,
    context: PromptContext,
    prompt: VideoPrompt,
    video: MessageParts,
    aspect: Aspect,
    sample: int,
) -> VlmRequest[Rating]:
    """Build the question for the rating of a video in one aspect."""
    parts = (*_prompt_parts(context, prompt), *_video_parts("The video", context, video))
    closing = _aspect_text(context, prompt, aspect, sample)
    return _build_question(name, context, context.rubric.rules, (*parts, closing), Rating)


def build_comparison_question(
    name: str,
    context: PromptContext,
    prompt: VideoPrompt,
    videos: tuple[MessageParts, MessageParts],
    aspect: Aspect,
    sample: int,
) -> VlmRequest[Verdict]:
    """Build the question which of two videos, in display order, is better in one aspect."""
    parts = list(_prompt_parts(context, prompt))
    for number, video in enumerate(videos, 1):
        parts += _video_parts(f"Video {number}", context, video)
    closing = _aspect_text(context, prompt, aspect, sample)
    return _build_question(name, context, context.rubric.duel, (*parts, closing), Verdict)


def build_frame_parts(context: PromptContext, jpegs: Sequence[bytes]) -> MessageParts:
    """Build message parts of a video that is sent as frames."""
    return tuple(context.build_image(jpeg) for jpeg in jpegs)


def build_video_file_parts(context: PromptContext, path: Path, sha256: str) -> MessageParts:
    """Build message parts of a video that is sent as a file."""
    return (VideoPart(path, context.settings.fps, sha256),)


def _prompt_parts(context: PromptContext, prompt: VideoPrompt) -> MessageParts:
    parts: list[TextPart | ImagePart | VideoPart] = []
    for name in prompt.characters:
        member = context.cast[name]
        kind = "a cartoon" if member.style == "cartoon" else "live action"
        lines = [f"Reference sheet of {name}, from {data_block(member.show)} ({kind})."]
        if member.description:
            lines.append(f"Looks: {data_block(member.description)}")
        sheet = context.reference_sheets[name]
        if sheet is None:
            lines.append("There is no picture; go by what you know of the character.")
        parts.append(TextPart("\n".join(lines)))
        if sheet is not None:
            parts.append(context.build_image(sheet))
    text = data_block(prompt.render())
    return (*parts, TextPart(f"The prompt that the video was generated from:\n{text}"))


def _video_parts(label: str, context: PromptContext, video: MessageParts) -> MessageParts:
    frames = sum(isinstance(part, ImagePart) for part in video)
    rate = f"{context.settings.fps:g} a second"
    if not frames:
        return (TextPart(f"{label}:"), *video)
    return (TextPart(f"{label}: {frames} frames, {rate}, in the order of time:"), *video)


def _aspect_text(
    context: PromptContext, prompt: VideoPrompt, aspect: Aspect, sample: int
) -> TextPart:
    rubric = context.rubric.aspect_rubric(aspect, len(prompt.characters))
    text = f"The aspect: {rubric.title}. {rubric.question.strip()}"
    text += f"\n\nThe scale:\n{rubric.format_scale()}"
    samples = context.settings.effective_samples
    if samples > 1:
        # Distinct text per sample: the response cache then stores one answer for each.
        text += f"\n\nThis is reading {sample + 1} of {samples}, made on its own."
    return TextPart(text)


def _build_question(
    name: str, context: PromptContext, rules: str, parts: MessageParts, answer: type[Any]
) -> VlmRequest[Any]:
    return VlmRequest(
        id=name,
        messages=(
            ChatMessage("system", (TextPart(f"{rules.strip()}\n\n{DATA_RULE}"),)),
            ChatMessage("user", parts),
        ),
        response_model=answer,
        schema=strict_schema(answer),
        max_output_tokens=context.vlm.max_output_tokens,
        temperature=context.vlm.temperature,
        reasoning_effort=context.vlm.reasoning_effort,
    )
