"""Build the request that the paper's authors sent to their judge, for mode authors.

Source: a public script that scores videos of the paper's ten characters with the paper's model in
its four aspects. One request for each aspect: the whole uploaded video at the provider's own frame
rate, then one text. It has no system message, no reference images, no prompt of the video and no
schema.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mimix_core.benchmark.judge.rubric import MAX_SCORE, MIN_SCORE, Aspect, AuthorsRubric
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine.artifacts import FileRef
from mimix_core.settings.judge_settings import JudgeVlmSettings
from mimix_core.vlm import ChatMessage, ImagePart, TextPart, VideoPart, VlmRequest

AUTHORS_MODEL = "gemini-1.5-flash"
"""The authors' judge, which is retired."""

AUTHORS_TOP_P = 0.95
AUTHORS_TOP_K = 40

RETIRED_NOTE = (
    f"Mode authors sends the request of the paper's authors, but their model, {AUTHORS_MODEL}, is "
    "retired: the paper's ratings cannot be reproduced exactly."
)


class AuthorsRating(BaseModel):
    """An answer; like the authors, we use only its score. Its reasoning is for people."""

    model_config = ConfigDict(extra="ignore")

    score: float = Field(ge=MIN_SCORE, le=MAX_SCORE, strict=True)
    reasoning: str | None = None

    @property
    def analysis(self) -> str:
        """Return the reasoning, for the table's column of that name."""
        return self.reasoning or ""


def build_authors_question(
    name: str,
    rubric: AuthorsRubric,
    vlm: JudgeVlmSettings,
    prompt: VideoPrompt,
    video: VideoPart | tuple[ImagePart, ...],
    aspect: Aspect,
) -> VlmRequest[AuthorsRating]:
    """Build the request about a video in one aspect; images in its place only to estimate costs."""
    text = TextPart(rubric.format_question(aspect, prompt.characters))
    parts = video if isinstance(video, tuple) else (video,)
    return VlmRequest(
        id=name,
        messages=(ChatMessage("user", (*parts, text)),),
        response_model=AuthorsRating,
        schema={},
        max_output_tokens=vlm.max_output_tokens,
        temperature=vlm.temperature,
        top_p=AUTHORS_TOP_P,
        top_k=AUTHORS_TOP_K,
        reasoning_effort=vlm.reasoning_effort,
    )


def build_authors_video(video: FileRef) -> VideoPart:
    """Build the part with a complete video, of which the provider samples the frames."""
    return VideoPart(video.path, None, video.sha256)
