"""Settings of the backbone and of its precomputed inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.extensions import ModuleName


class BackboneSettings(FrozenModel):
    """The text-to-video model. Each alternative has its own name."""

    name: (
        Literal[
            "wan2.1-t2v-14b",
            "wan2.1-t2v-1.3b",
            "wan2.2-t2v-a14b",
            "wan2.2-ti2v-5b",
            "ltx-video-0.9.5",
            "tiny-random-wan",
            "tiny-random-wan-experts",
            "tiny-random-ltx",
        ]
        | ModuleName
    ) = Field(
        "wan2.1-t2v-14b",
        description="Name of the text-to-video model, or the module of one from outside MiMix.",
    )
    path: Annotated[Path | None, ExcludeFromKey()] = Field(
        None, description="Folder of the model in diffusers layout."
    )
    seed: int = Field(0, description="Random seed of the weights of the models with random ones.")
    accept_clip_rate: Annotated[bool, ExcludeFromKey()] = Field(
        False,
        description="Use a backbone of another frame rate than `clips.frame_rate` "
        "(wan2.2-ti2v-5b: 24).",
    )


class LatentSettings(FrozenModel):
    """Precomputed VAE latents (the means)."""

    width: int | None = Field(
        None,
        multiple_of=16,
        description="Width in pixels that clips are resized to. Empty: the clips' width.",
    )
    height: int | None = Field(
        None,
        multiple_of=16,
        description="Height in pixels that clips are resized to. Empty: the clips' height.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Floating-point precision of the VAE."
    )
    threads: int = Field(
        2,
        ge=1,
        description="Number of CPU threads without a GPU; affects the order of sums.",
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], ExcludeFromKey()] = Field(
        "auto", description="Device of the VAE; auto uses a GPU if there is one."
    )

    @model_validator(mode="after")
    def _validate_size(self) -> LatentSettings:
        if (self.width is None) != (self.height is None):
            raise ValueError("set both width and height, or neither")
        return self


class EmbeddingSettings(FrozenModel):
    """Precomputed UMT5 embeddings of the captions."""

    variant: Literal["both", "character", "scene-style", "no-tags"] = Field(
        "both", description="Tags in the embedded captions (paper, table 2)."
    )
    max_tokens: int = Field(
        512,
        ge=2,
        le=512,
        description="Maximum tokens of a caption; longer ones are truncated (LTX-Video: to 256).",
    )
    threads: int = Field(
        2,
        ge=1,
        description="Number of CPU threads without a GPU; affects the order of sums.",
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], ExcludeFromKey()] = Field(
        "auto", description="Device of the text encoder; auto uses a GPU if there is one."
    )
