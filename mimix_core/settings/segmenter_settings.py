"""Settings of SAM 2 and SAM 3, which segment characters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey


class Sam2Settings(FrozenModel):
    """The video predictor of SAM2.1. All fields except device and threads affect the masks."""

    model: Literal["tiny", "small", "base-plus", "large"] = Field(
        "large", description="Model size of the SAM2.1 checkpoint."
    )
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the checkpoint, if it is not one that Meta published.",
    )
    image_size: int = Field(
        1024,
        ge=64,
        multiple_of=64,
        description="Side in pixels of the square model input; SAM2 was trained at 1024.",
    )
    margin: float = Field(
        0.05,
        ge=0,
        le=0.5,
        description="Padding on each side, as a share of the longer side of the frame.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "bf16", description="Floating-point precision of the model."
    )
    compile: Literal["off", "on"] = Field(
        "off",
        description="Compile the model; takes minutes at first and is faster afterwards "
        "(docs/cutouts.md).",
    )
    frame_batch_size: int = Field(
        9, ge=1, description="Frames encoded per forward pass; affects the last bits of the masks."
    )
    clip_batch_size: int = Field(
        2, ge=1, description="Clips tracked at the same time; affects the last bits of the masks."
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], ExcludeFromKey()] = Field(
        "auto", description="Device of the model; auto uses a GPU if there is one."
    )
    threads: Annotated[int, ExcludeFromKey()] = Field(
        2, ge=1, description="Number of CPU threads, also when a GPU is used."
    )


class Sam3Settings(FrozenModel):
    """The video tracker of SAM 3. All fields except device and threads affect the masks."""

    margin: float = Field(
        0.05,
        ge=0,
        le=0.5,
        description="Padding on each side, as a share of the longer side of the frame.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "bf16", description="Floating-point precision of the model."
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], ExcludeFromKey()] = Field(
        "auto", description="Device of the model; auto uses a GPU if there is one."
    )
    threads: Annotated[int, ExcludeFromKey()] = Field(
        2, ge=1, description="Number of CPU threads, also when a GPU is used."
    )
