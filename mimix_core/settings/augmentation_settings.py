"""Settings of cut-outs, composites and the dataset."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.cache_key import Immaterial
from mimix_core.settings.curation_settings import Preset
from mimix_core.settings.locator_settings import (
    CartoonLocator,
    FaceLocatorSettings,
    LikenessLocatorSettings,
    RealisticLocator,
    VlmLocatorSettings,
)
from mimix_core.settings.segmenter_settings import Sam2Settings


class CutoutSettings(Frozen):
    """Characters cut out of clips."""

    locator_cartoon: Annotated[CartoonLocator, Immaterial()] = Field(
        "boxes",
        description="Who finds the characters of cartoons in episodes without a boxes file. boxes: "
        "nobody.",
    )
    locator_realistic: Annotated[RealisticLocator, Immaterial()] = Field(
        "boxes", description="The same for live action."
    )
    reference: Annotated[FaceLocatorSettings, Immaterial()] = FaceLocatorSettings()
    embedding: Annotated[LikenessLocatorSettings, Immaterial()] = LikenessLocatorSettings()
    vlm: Annotated[VlmLocatorSettings, Immaterial()] = VlmLocatorSettings()
    backend: Literal["selfie", "grabcut", "sam2"] = Field(
        "selfie",
        description="selfie: MediaPipe's person mask inside the box; grabcut: no weights; sam2: "
        "SAM2.1, the paper's.",
    )
    weights: Annotated[Path | None, Immaterial()] = Field(
        None, description="selfie_segmentation.tflite, or a checkpoint of SAM2.1."
    )
    sam2: Sam2Settings = Sam2Settings()
    min_presence: float = Field(0.95, description="Share of frames with the character.")
    min_area: float = Field(0.01, description="Median share of the frame.")
    max_area: float = Field(0.70, description="Median share of the frame.")
    min_frame_iou: float = Field(0.35, description="Between neighbouring frames' masks.")
    max_jump: float = Field(
        0.30,
        description="Of the mask's middle between neighbouring frames, in diagonals of its box.",
    )
    max_flicker: float = Field(
        0.05,
        description="Of the mask's area, what joins or leaves it between neighbouring frames "
        "without having moved.",
    )
    max_pieces: int = Field(
        4, ge=1, description="Separate parts of a mask, in all but a tenth of the frames."
    )
    max_holes: float = Field(
        0.15, description="Share of a mask's outline, in all but a tenth of the frames."
    )
    min_inside_box: float = Field(0.80, description="Share of the mask inside the located box.")
    min_box_covered: float = Field(
        0.50, description="Share of the located box inside the mask's own, in the median frame."
    )
    min_score: float = Field(0.30, description="The backend's confidence, in the median frame.")

    def in_force(self) -> CutoutSettings:
        """Without what only backend sam2 reads: its settings leave the others' cutouts alone."""
        return self if self.backend == "sam2" else self.model_copy(update={"sam2": Sam2Settings()})


class CompositeSettings(Frozen):
    """Characters pasted into scenes of the opposite style (paper, section 3.2)."""

    ratio: Decimal = Field(
        Decimal("0.10"), ge=0, lt=1, description="Composites / (originals + composites)."
    )
    placebo: Decimal = Field(
        Decimal(0),
        ge=0,
        le=1,
        description="Share of the composites that stay in their own style, so that the edge of a "
        "pasted figure is no sign of another style. The paper has none.",
    )
    seed: int = 0
    alone_only: bool = Field(
        True, description="No cutout whose caption has it act with another character of its clip."
    )
    located_only: bool = Field(
        True,
        description="Only onto clips of which all captioned characters were located: who is not "
        "may be hidden, and the caption still names them.",
    )
    max_covered: float = Field(
        0.30,
        ge=0,
        le=1,
        description="Of any one of the scene's own characters, where it is known (by the boxes, "
        "mean over the clip); else the pair is given up for another.",
    )
    min_height: float = Field(
        0.35, gt=0, description="Character's height in the scene, at least (share of it)."
    )
    max_height: float = Field(
        0.85, gt=0, description="At most; one cut off at the top keeps its own framing."
    )
    feather: float = Field(
        1.5,
        ge=0,
        le=10,
        description="Pixels of soft edge; 1 to 3 look right. 0: as the mask is, with what the rim "
        "holds of the old background.",
    )
    shadow: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Contact shadow under whoever stands in the picture: share of the light that "
        "is gone there.",
    )
    crf: int = Field(16, ge=0, le=51, description="x264 quality; 16 is visually lossless.")
    preset: Preset = Field("fast", description="x264 preset.")
    workers: Annotated[int, Immaterial()] = Field(
        2, ge=1, description="Composites rendered at a time; about 0.2 GB each."
    )

    @model_validator(mode="after")
    def _some_height_is_wanted(self) -> CompositeSettings:
        if self.min_height > self.max_height:
            raise ValueError("min_height is above max_height")
        return self


class DatasetSettings(Frozen):
    """Splits by episode, and the exact share of composites."""

    val_share: float = Field(0.1, ge=0, lt=1, description="Of each show's episodes.")
    test_share: float = Field(0.0, ge=0, lt=1, description="Of each show's episodes.")
    seed: int = 0
    ratio: Decimal | None = Field(
        None, ge=0, lt=1, description="Take only so many composites. Empty: all that were made."
    )

    @model_validator(mode="after")
    def _something_is_trained_on(self) -> DatasetSettings:
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share and test_share leave nothing to train on")
        return self
