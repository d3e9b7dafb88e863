"""Settings of the judge: which model rates the videos, how it is shown them, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.cache_key import Immaterial
from mimix_core.settings.vlm_settings import VlmSettings

PAPER_TEMPERATURE = 0.3
"""At which the paper's authors asked their judge."""


class JudgeVlmSettings(VlmSettings):
    """The judge's model. The authors' own, gemini-1.5-flash, is retired: any other may be named."""

    temperature: float | None = Field(
        PAPER_TEMPERATURE, ge=0, le=2, description="null: not sent. Mode paper: 0.3 or null."
    )
    max_output_tokens: int = Field(1500, ge=1)


class JudgeSettings(Frozen):
    """Identity-P, Motion-P, Style-P, Interaction-P (paper, section 4.1)."""

    vlm: JudgeVlmSettings | None = Field(
        None, description="The model that judges. Without one, nothing is judged."
    )
    vlm_secret: Annotated[str | None, Immaterial()] = Field(
        None, description="Prefect Secret block with the key, for runs without it in environment."
    )
    mode: Literal["paper", "strict"] = Field(
        "paper",
        description="paper: one answer per video and aspect, as the authors did. strict: `samples` "
        "answers each, negative controls, and comparisons of systems in both orders.",
    )
    samples: int = Field(
        4,
        ge=2,
        multiple_of=2,
        description="Mode strict: answers per question. Even: half of the comparisons show the one "
        "system first, half the other.",
    )
    control_videos: int = Field(
        10, ge=0, description="Mode strict: so many videos are judged in spoilt versions, too."
    )
    send: Literal["frames", "video"] = Field(
        "frames", description="What the model is shown. video: backend gemini only."
    )
    fps: float = Field(8.0, ge=8, le=16, description="Frames a second that the model is shown.")
    longest_seconds: float = Field(20.0, gt=0, description="A longer video fails.")
    picture_side: int = Field(512, ge=64, description="Longer side of each frame, in pixels.")
    sheet_side: int = Field(
        512, ge=64, description="Longer side of a character's reference sheet, in pixels."
    )
    jpeg_quality: int = Field(85, ge=1, le=100)
    rubric: Annotated[Path | None, Immaterial()] = Field(
        None, description="A rubric of your own; else benchmark/judge/rubrics/rubric-v1.yaml."
    )
    unavailable_share: Annotated[float, Immaterial()] = Field(
        0.05,
        ge=0,
        le=1,
        description="More questions than that without any answer stop the run: to be run again.",
    )

    @property
    def times(self) -> int:
        """How often each question is asked."""
        return self.samples if self.mode == "strict" else 1

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> JudgeSettings:
        if self.vlm is None:
            return self
        if self.send == "video" and self.vlm.backend != "gemini":
            raise ValueError("send: video needs vlm.backend gemini")
        if self.vlm_secret is not None and self.vlm.api_key_env is None:
            raise ValueError("vlm_secret needs vlm.api_key_env: the variable to put the key into")
        if self.mode == "paper" and self.vlm.temperature not in (PAPER_TEMPERATURE, None):
            raise ValueError(f"mode paper asks at temperature {PAPER_TEMPERATURE}, or sends none")
        if self.mode == "strict" and self.vlm.temperature == 0:
            raise ValueError("mode strict asks several times: at temperature 0 all answers are one")
        return self
