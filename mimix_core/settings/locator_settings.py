"""Settings of the locators: who finds a character in a clip, and how sure it has to be.

They are part of what an episode's cutouts stage is given, and of its key, only where they are used:
another model for cartoons leaves the live action's cutouts alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.domain.timeline import CLIP_FRAMES
from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.cache_key import Immaterial
from mimix_core.settings.vlm_settings import VlmSettings


def _joinable(steps: int, max_gap: int, what: str) -> None:
    """Raises ValueError when two sightings that follow one another are never joined."""
    if steps > max_gap:
        raise ValueError(
            f"{what} looks at frames {steps} apart, and max_gap joins only what is {max_gap} "
            "apart: nobody would be located"
        )


class FaceLocatorSettings(Frozen):
    """Faces, compared with the faces of the reference images."""

    every: int = Field(8, ge=1, le=40, description="Faces are looked for on every so many frames.")
    min_face: int = Field(40, ge=20, description="Pixels; smaller ones say too little of identity.")
    max_distance: float = Field(
        0.5,
        gt=0,
        le=1,
        description="To the reference, of the nearest third of a face's appearances. The network's "
        "own bound is 0.6; others are at 0.76 and more.",
    )
    min_margin: float = Field(
        0.1, ge=0, description="By which the next character must be farther away."
    )
    max_gap: int = Field(
        24,
        ge=1,
        description="Frames for which a face may be hidden or turned away and be followed.",
    )

    @model_validator(mode="after")
    def _frames_are_joined(self) -> FaceLocatorSettings:
        _joinable(self.every, self.max_gap, f"every: {self.every}")
        return self


class LikenessLocatorSettings(Frozen):
    """Windows of a frame, compared with the reference images by an image network's features."""

    every: int = Field(8, ge=1, le=40, description="Looked at: every so many frames.")
    min_similarity: float = Field(
        0.55, gt=0, lt=1, description="Cosine of a window's features to a reference's, at least."
    )
    min_margin: float = Field(
        0.06, ge=0, description="By which the window must be less like any other character."
    )
    max_gap: int = Field(24, ge=1, description="Frames between two sightings that are joined.")

    @model_validator(mode="after")
    def _frames_are_joined(self) -> LikenessLocatorSettings:
        _joinable(self.every, self.max_gap, f"every: {self.every}")
        return self


class VlmLocatorSettings(Frozen):
    """A vision-language model that is shown some frames and asked for boxes."""

    vlm: VlmSettings = VlmSettings()
    vlm_secret: Annotated[str | None, Immaterial()] = Field(
        None, description="Prefect Secret block with the key, for runs without it in environment."
    )
    frames: int = Field(11, ge=2, le=81, description="Sent of each clip, evenly over its time.")
    picture_side: int = Field(832, ge=64, description="Longer side of what is sent, in pixels.")
    jpeg_quality: int = Field(90, ge=1, le=100)
    min_certainty: int = Field(
        70, ge=0, le=100, description="Percent, as the model says of each box."
    )
    max_gap: int = Field(24, ge=1, description="Frames between two sightings that are joined.")
    unavailable_share: Annotated[float, Immaterial()] = Field(
        0.05,
        ge=0,
        le=1,
        description="More of the clips without any answer stop the episode: to be run again.",
    )

    @model_validator(mode="after")
    def _frames_are_joined(self) -> VlmLocatorSettings:
        apart = -(-(CLIP_FRAMES - 1) // (self.frames - 1))
        _joinable(apart, self.max_gap, f"frames: {self.frames}")
        return self

    @model_validator(mode="after")
    def _can_be_asked(self) -> VlmLocatorSettings:
        if self.vlm_secret is not None and self.vlm.api_key_env is None:
            raise ValueError("vlm_secret needs vlm.api_key_env: the variable to put the key into")
        return self


CartoonLocator = Literal["boxes", "embedding", "vlm"]
RealisticLocator = Literal["boxes", "reference", "embedding", "vlm"]
