"""Settings of the captions stage."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.extensions import ModuleName
from mimix_core.settings.vlm_settings import VlmSettings


class CaptionSettings(FrozenModel):
    """Captions of the form `[Character: X], does. [scene-style:cartoon]` (paper, section 3.1)."""

    backend: Literal["script", "vlm"] | ModuleName = Field(
        "script",
        description="Source of captions: action scripts, or the vision-language model under `vlm`.",
    )
    min_overlap_seconds: Decimal = Field(
        Decimal("0.5"),
        gt=0,
        description="Minimum seconds that a scripted action must share with a clip to appear in "
        "its caption.",
    )
    max_words: int = Field(
        120,
        ge=8,
        description="Reject longer captions; captions of composites may have twice as many words.",
    )
    max_tokens: int = Field(
        512,
        ge=16,
        description="Reject captions with more tokens of the text encoder; requires `tokenizer`.",
    )
    tokenizer: Annotated[Path | None, ExcludeFromKey()] = Field(
        None, description="Folder with the text encoder's tokenizer.json (Wan: `tokenizer`)."
    )
    language: Literal["en", "any"] = Field(
        "en", description="Language of captions: English only, or any."
    )
    overrides: Annotated[Path | None, ExcludeFromKey()] = Field(
        None, description="File of manual captions, as written by `mimix captions import`."
    )
    identical_caption_warning_count: Annotated[int, ExcludeFromKey()] = Field(
        5, ge=2, description="Warn about an episode in which this many clips have the same caption."
    )

    vlm: VlmSettings = Field(
        VlmSettings(), description="The vision-language model that writes captions."
    )
    vlm_secret: Annotated[str | None, ExcludeFromKey()] = Field(
        None,
        description="Prefect Secret block that holds the API key when the environment variable "
        "is not set.",
    )
    visual_input: Literal["frames", "video"] = Field(
        "frames",
        description="What the model receives of a clip; video requires vlm.backend gemini.",
    )
    num_frames: int = Field(
        10, ge=1, le=81, description="Number of frames sent per clip, evenly spaced."
    )
    video_fps: float = Field(
        2.0,
        gt=0,
        le=16,
        description="Frames per second that the model samples; for visual_input: video.",
    )
    image_size: int = Field(
        512, ge=64, description="Longer side in pixels of the frames that are sent."
    )
    jpeg_quality: int = Field(
        85, ge=1, le=100, description="JPEG quality of the frames that are sent."
    )
    prompt: Annotated[Path | None, ExcludeFromKey()] = Field(
        None, description="Prompt file that replaces captions/prompts/caption-v3.md."
    )
    caption_context: Literal["none", "previous"] = Field(
        "none",
        description="Context of a request; previous adds the caption of the scene's previous "
        "clip, so that clips of a scene are captioned one after the other.",
    )
    max_reprompts: int = Field(
        2,
        ge=0,
        le=5,
        description="Maximum follow-up requests that ask the model to correct a response.",
    )
    max_failure_rate: Annotated[float, ExcludeFromKey()] = Field(
        0.05,
        ge=0,
        le=1,
        description="Stop the episode, to be resumed later, when a larger share of its requests "
        "gets no response.",
    )

    @model_validator(mode="after")
    def _validate_input(self) -> CaptionSettings:
        if self.visual_input == "video" and self.vlm.backend != "gemini":
            raise ValueError("visual_input: video requires vlm.backend gemini")
        if self.vlm_secret is not None and self.vlm.api_key_env is None:
            raise ValueError(
                "vlm_secret requires vlm.api_key_env: the variable that receives the key"
            )
        return self

    def effective(self) -> CaptionSettings:
        """Reset the settings that the chosen backend ignores, to leave them out of the key."""
        if self.backend == "vlm":
            return self
        fields = type(self).model_fields
        vlm_only = (
            "vlm",
            "visual_input",
            "num_frames",
            "video_fps",
            "image_size",
            "jpeg_quality",
            "caption_context",
            "max_reprompts",
        )
        return self.model_copy(update={name: fields[name].default for name in vlm_only})
