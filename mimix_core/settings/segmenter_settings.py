"""Settings of SAM2, which cuts characters out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.cache_key import Immaterial


class Sam2Settings(Frozen):
    """SAM2.1's video predictor. What it gives depends on all but device and threads."""

    model: Literal["tiny", "small", "base-plus", "large"] = "large"
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="Of the checkpoint, when it is not the one that Meta published.",
    )
    image_size: int = Field(
        1024, ge=64, multiple_of=64, description="Sides of SAM2's picture; it was trained at 1024."
    )
    margin: float = Field(
        0.05, ge=0, le=0.5, description="Added on each side, as a share of the frame's longer one."
    )
    precision: Literal["fp32", "bf16"] = "bf16"
    compile: Literal["off", "on"] = Field(
        "off", description="Compile the model: minutes at first, then faster (docs/cutouts.md)."
    )
    batch: int = Field(
        9, ge=1, description="Frames encoded at a time; last bits of the masks depend on it."
    )
    clips: int = Field(
        2, ge=1, description="Followed at the same time; last bits of the masks depend on it."
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Immaterial()] = "auto"
    threads: Annotated[int, Immaterial()] = Field(2, ge=1, description="CPU's, also beside a GPU.")
