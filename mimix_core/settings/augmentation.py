"""Settings of cut-outs, composites and the dataset."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.keys import Immaterial
from mimix_core.refs import Frozen


class CutoutSettings(Frozen):
    """Characters cut out of clips."""

    locator: Literal["boxes"] = Field("boxes", description="Where a character is.")
    backend: Literal["selfie", "grabcut"] = Field(
        "selfie", description="selfie: MediaPipe's person mask inside the box; grabcut: no weights."
    )
    weights: Annotated[Path | None, Immaterial()] = Field(
        None, description="selfie_segmentation.tflite"
    )
    min_presence: float = Field(0.95, description="Share of frames with the character.")
    min_area: float = Field(0.01, description="Median share of the frame.")
    max_area: float = Field(0.70, description="Median share of the frame.")
    min_frame_iou: float = Field(0.35, description="Between neighbouring frames' masks.")
    min_inside_box: float = Field(0.80, description="Share of the mask inside the located box.")


class CompositeSettings(Frozen):
    """Characters pasted into scenes of the opposite style (paper, section 3.2)."""

    ratio: Decimal = Field(
        Decimal("0.10"), ge=0, lt=1, description="Composites / (originals + composites)."
    )
    seed: int = 0
    min_height: float = Field(
        0.35, gt=0, description="Character's height in the scene, at least (share of it)."
    )
    max_height: float = Field(
        0.85, gt=0, description="At most; one cut off at the top keeps its own framing."
    )
    feather: float = Field(1.5, ge=0, description="Pixels of soft edge.")
    crf: int = Field(16, ge=0, le=51, description="x264 quality; 16 is visually lossless.")
    preset: str = Field("fast", description="x264 preset.")
    workers: Annotated[int, Immaterial()] = Field(
        2, ge=1, description="Composites rendered at a time; about 0.3 GB each."
    )


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
