"""Settings of the judge: the model that rates videos, its input and the number of ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.settings.vlm_settings import VlmSettings

JudgeMode = Literal["paper", "strict", "authors"]

PAPER_TEMPERATURE = 0.3
"""Sampling temperature of the paper's judge."""

AUTHORS_OUTPUT_TOKENS = 1024
"""Limit of an answer in the authors' request."""


class JudgeVlmSettings(VlmSettings):
    """The judge's model. The paper's gemini-1.5-flash is retired; any other model works."""

    temperature: float | None = Field(
        PAPER_TEMPERATURE,
        ge=0,
        le=2,
        description="Sampling temperature, 0.3 in mode authors, 0.3 or null in mode paper; null "
        "omits it from requests.",
    )
    max_output_tokens: int = Field(
        1500, ge=1, description="Maximum tokens of a response; always 1024 in mode authors."
    )


class JudgeSettings(FrozenModel):
    """Ratings Identity-P, Motion-P, Style-P and Interaction-P (paper, section 4.1)."""

    vlm: JudgeVlmSettings | None = Field(
        None, description="The vision-language model that judges. Empty: nothing is judged."
    )
    vlm_secret: Annotated[str | None, ExcludeFromKey()] = Field(
        None,
        description="Prefect Secret block that holds the API key when the environment variable "
        "is not set.",
    )
    mode: JudgeMode = Field(
        "paper",
        description="Protocol. paper: one rating per video and aspect, as in the paper. strict: "
        "`samples_per_question` ratings each, negative controls, and pairwise "
        "comparisons of systems in both orders. authors: the request of the paper's authors, which "
        "has the whole video and neither prompt nor reference images; backend gemini only.",
    )
    samples_per_question: int = Field(
        4,
        ge=2,
        multiple_of=2,
        description="Mode strict: responses per question. Must be even, so that both orders of "
        "a comparison are equally frequent.",
    )
    negative_control_videos: int = Field(
        10,
        ge=0,
        description="Mode strict: number of videos that are also judged in corrupted versions.",
    )
    visual_input: Literal["frames", "video"] = Field(
        "frames",
        description="What the model receives of a video; video requires vlm.backend gemini. Mode "
        "authors always sends the video.",
    )
    fps: float = Field(
        8.0,
        ge=8,
        le=16,
        description="Frames per second that the model receives. Mode authors sends no rate: Gemini "
        "then samples one frame per second.",
    )
    max_video_seconds: float = Field(
        20.0, gt=0, description="Maximum duration of a video in seconds; longer ones fail."
    )
    image_size: int = Field(512, ge=64, description="Longer side in pixels of each frame.")
    reference_sheet_size: int = Field(
        512, ge=64, description="Longer side in pixels of a character's reference sheet."
    )
    jpeg_quality: int = Field(
        85, ge=1, le=100, description="JPEG quality of the frames that are sent."
    )
    rubric: Annotated[Path | None, ExcludeFromKey()] = Field(
        None,
        description="Rubric file that replaces benchmark/judge/rubrics/rubric-v2.yaml, or "
        "authors-v1.yaml beside it in mode authors.",
    )
    max_failure_rate: Annotated[float, ExcludeFromKey()] = Field(
        0.05,
        ge=0,
        le=1,
        description="Stop the run, to be resumed later, when a larger share of the questions "
        "gets no response.",
    )

    @property
    def effective_samples(self) -> int:
        """Return the number of responses per question in this mode."""
        return self.samples_per_question if self.mode == "strict" else 1

    @model_validator(mode="before")
    @classmethod
    def _default_to_the_authors_request(cls, data: Any) -> Any:
        """In mode authors, the defaults are those of the authors' request, but for the model."""
        if not isinstance(data, dict) or data.get("mode") != "authors":
            return data
        vlm = data.get("vlm")
        if isinstance(vlm, dict):
            if "model" not in vlm:
                raise ValueError(
                    "mode authors requires vlm.model: the authors' gemini-1.5-flash is retired"
                )
            vlm = {"backend": "gemini", "max_output_tokens": AUTHORS_OUTPUT_TOKENS} | vlm
        return {"visual_input": "video"} | data | {"vlm": vlm}

    @model_validator(mode="after")
    def _validate_mode(self) -> JudgeSettings:
        if self.vlm is None:
            return self
        if self.mode == "authors":
            self._validate_authors_request(self.vlm)
        if self.visual_input == "video" and self.vlm.backend != "gemini":
            raise ValueError("visual_input: video requires vlm.backend gemini")
        if self.vlm_secret is not None and self.vlm.api_key_env is None:
            raise ValueError(
                "vlm_secret requires vlm.api_key_env: the variable that receives the key"
            )
        if self.mode == "paper" and self.vlm.temperature not in (PAPER_TEMPERATURE, None):
            raise ValueError(f"mode paper requires temperature {PAPER_TEMPERATURE} or null")
        if self.mode == "strict" and self.vlm.temperature == 0:
            raise ValueError(
                "mode strict samples several responses, which are identical at temperature 0"
            )
        return self

    def _validate_authors_request(self, vlm: JudgeVlmSettings) -> None:
        """Raise ValueError for settings with which the request would not be the authors'."""
        fixed = {
            "visual_input": (self.visual_input, "video"),
            "vlm.backend": (vlm.backend, "gemini"),
            "vlm.temperature": (vlm.temperature, PAPER_TEMPERATURE),
            "vlm.max_output_tokens": (vlm.max_output_tokens, AUTHORS_OUTPUT_TOKENS),
            "vlm.response_format": (vlm.response_format, "json_schema"),
            "vlm.seed": (vlm.seed, None),
            "vlm.extra_body": (vlm.extra_body, {}),
        }
        for name, (value, required) in fixed.items():
            if value != required:
                raise ValueError(
                    f"mode authors requires {name}: {'null' if required is None else required}, as "
                    "in the authors' request"
                )
