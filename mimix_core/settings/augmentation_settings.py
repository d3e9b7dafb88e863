"""Settings of cutouts, composites and the dataset."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.settings.curation_settings import Preset
from mimix_core.settings.locator_settings import (
    CartoonLocator,
    EmbeddingLocatorSettings,
    FaceLocatorSettings,
    RealisticLocator,
    Sam3LocatorSettings,
    VlmLocatorSettings,
)
from mimix_core.settings.segmenter_settings import Sam2Settings, Sam3Settings


class CutoutSettings(FrozenModel):
    """Location and segmentation of characters in clips."""

    locator_cartoon: Annotated[CartoonLocator, ExcludeFromKey()] = Field(
        "auto",
        description="Locator of characters in cartoons, in episodes without a boxes file. auto: "
        "embedding if the show's characters have reference images and it is installed, else "
        "boxes, which uses only boxes files.",
    )
    locator_realistic: Annotated[RealisticLocator, ExcludeFromKey()] = Field(
        "auto",
        description="Locator of characters in live action, in episodes without a boxes file. "
        "auto: face, or else embedding, if the show's characters have reference images and it is "
        "installed, else boxes, which uses only boxes files.",
    )
    face: Annotated[FaceLocatorSettings, ExcludeFromKey()] = Field(
        FaceLocatorSettings(),
        description="The locator that compares faces with the reference images.",
    )
    embedding: Annotated[EmbeddingLocatorSettings, ExcludeFromKey()] = Field(
        EmbeddingLocatorSettings(),
        description="The locator that compares image embeddings with the reference images.",
    )
    vlm: Annotated[VlmLocatorSettings, ExcludeFromKey()] = Field(
        VlmLocatorSettings(), description="The locator that asks a vision-language model for boxes."
    )
    sam3_locator: Annotated[Sam3LocatorSettings, ExcludeFromKey()] = Field(
        Sam3LocatorSettings(),
        description="The locator that finds figures by their nouns with SAM 3 and compares them "
        "with the reference images.",
    )
    backend: Literal["selfie", "grabcut", "sam2", "sam3", "masks"] = Field(
        "selfie",
        description="Segmenter. selfie: MediaPipe's person segmentation inside the box. "
        "grabcut: GrabCut, without weights. sam2: SAM2.1, as in the paper. sam3: SAM 3's tracker. "
        "masks: masks that were made elsewhere, from the masks file of each episode.",
    )
    weights: Annotated[Path | None, ExcludeFromKey()] = Field(
        None,
        description="Weights of the segmenter: selfie_segmentation.tflite, a SAM2.1 checkpoint, "
        "or the folder of facebook/sam3.",
    )
    sam2: Sam2Settings = Field(
        Sam2Settings(), description="The SAM2.1 video predictor; backend sam2 only."
    )
    sam3: Annotated[Sam3Settings, OmitDefault()] = Field(
        Sam3Settings(), description="The SAM 3 video tracker; backend sam3 only."
    )
    min_presence: float = Field(0.95, description="Minimum share of the frames with a mask.")
    min_area: float = Field(
        0.01, description="Minimum median area of the mask, as a share of the frame."
    )
    max_area: float = Field(
        0.70, description="Maximum median area of the mask, as a share of the frame."
    )
    min_frame_iou: float = Field(
        0.35, description="Minimum IoU of the masks of consecutive frames."
    )
    max_jump: float = Field(
        0.30,
        description="Maximum shift of the mask's centroid between consecutive frames, in "
        "diagonals of its box.",
    )
    max_flicker: float = Field(
        0.05,
        description="Maximum share of the mask's area that appears or disappears between "
        "consecutive frames other than by motion.",
    )
    max_pieces: int = Field(
        4,
        ge=1,
        description="Maximum number of connected components of a mask, over the best 90 % of "
        "the frames.",
    )
    max_holes: float = Field(
        0.15,
        description="Maximum share of holes in a mask's outline, over the best 90 % of the frames.",
    )
    max_closed_hole: float = Field(
        0.08,
        ge=0,
        le=1,
        description="Holes that look like the character (an apron) are closed up to this share "
        "of the mask; a mask with a larger one is rejected.",
    )
    min_share_in_box: float = Field(
        0.80, description="Minimum share of the mask that lies inside the located box."
    )
    min_box_coverage: float = Field(
        0.50,
        description="Minimum share of the located box that the mask's own box covers, median "
        "over the frames.",
    )
    min_score: float = Field(
        0.30, description="Minimum confidence of the segmenter, median over the frames."
    )

    def effective(self) -> CutoutSettings:
        """Reset the settings that the chosen backend ignores, to leave them out of the key."""
        unused: dict[str, FrozenModel] = {}
        if self.backend != "sam2":
            unused["sam2"] = Sam2Settings()
        if self.backend != "sam3":
            unused["sam3"] = Sam3Settings()
        return self.model_copy(update=unused)


class CompositeSettings(FrozenModel):
    """Characters composited into scenes of the opposite style (paper, section 3.2)."""

    ratio: Decimal = Field(
        Decimal("0.10"),
        ge=0,
        lt=1,
        description="Share of composites in the dataset: composites / (originals + composites).",
    )
    same_style_share: Decimal = Field(
        Decimal(0),
        ge=0,
        le=1,
        description="Share of the composites that keep their own style, as a control, so that "
        "compositing artifacts do not indicate a style mix; the paper has none.",
    )
    seed: int = Field(0, description="Random seed of the pairing.")
    solo_actions_only: bool = Field(
        True,
        description="Skip cutouts whose caption describes an interaction with another character.",
    )
    guest_props: Literal["drop", "ask", "keep"] = Field(
        "drop",
        description="Things that a pasted character's own caption names and that were not pasted "
        "(a bench, a cup). drop: leave them out of the composite's caption, and skip cutouts of "
        "which nothing else is said. ask: fail captions that name any, until a person has written "
        "them. keep: name them.",
    )
    held_out_pairs: tuple[tuple[str, str], ...] = Field(
        (),
        description="Pairs of characters that are never composited into one scene, so that "
        "generated videos of them show what is learned about pairs that never met. Example: "
        "[[Tom, Mr. Bean]].",
    )
    require_located_characters: bool = Field(
        True,
        description="Use a clip as a background only if all characters of its caption are "
        "located, because an unlocated one may be hidden and still be captioned.",
    )
    max_occlusion: float = Field(
        0.30,
        ge=0,
        le=1,
        description="Maximum share of a character of the scene that may be covered (by its "
        "masks, or its boxes where its masks were rejected; mean over the clip); otherwise another "
        "pair is drawn.",
    )
    min_ground: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Minimum share of the area under a character's feet that must look like the "
        "ground under the feet of the scene's own characters (brightness, color and texture), in "
        "all frames, so that nobody is placed in the sea. Scenes in which no ground is seen get no "
        "character with visible feet. 0: feet may be anywhere.",
    )
    min_height: float = Field(
        0.35, gt=0, description="Minimum height of the character, as a share of the scene's height."
    )
    max_height: float = Field(
        0.85,
        gt=0,
        description="Maximum height of the character, as a share of the scene's height; a "
        "character cut off at the top keeps its framing.",
    )
    feather: float = Field(
        1.5,
        ge=0,
        le=10,
        description="Width of the soft edge in pixels; 1 to 3 look natural. 0 keeps the mask as "
        "it is, including the old background in its edge pixels.",
    )
    shadow: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Strength of the contact shadow: share of the light that is removed under a "
        "character that is fully visible.",
    )
    crf: int = Field(
        16,
        ge=0,
        le=51,
        description="Quality of x264 (constant rate factor); 16 is visually lossless.",
    )
    preset: Preset = Field(
        "fast", description="Preset of x264 that trades speed against file size."
    )
    workers: Annotated[int, ExcludeFromKey()] = Field(
        2,
        ge=1,
        description="Composites rendered at the same time; each takes about 0.2 GB of memory.",
    )

    @model_validator(mode="after")
    def _validate_heights(self) -> CompositeSettings:
        if self.min_height > self.max_height:
            raise ValueError("min_height is greater than max_height")
        return self


class DatasetSettings(FrozenModel):
    """Splits by episode, and the exact share of composites."""

    val_share: float = Field(
        0.1, ge=0, lt=1, description="Share of each show's episodes in the validation split."
    )
    test_share: float = Field(
        0.0, ge=0, lt=1, description="Share of each show's episodes in the test split."
    )
    seed: int = Field(0, description="Random seed of the splits.")
    ratio: Decimal | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of composites in the dataset; surplus composites are left out. "
        "Empty: use all composites.",
    )
    excluded_characters: Annotated[tuple[str, ...], OmitDefault()] = Field(
        (),
        description="Characters that the dataset leaves out: no clip and no composite whose "
        "caption names one of them is in any split.",
    )
    new_characters: Annotated[tuple[str, ...], OmitDefault()] = Field(
        (),
        description="Characters that are added to the adapter lora.initial_adapter. All samples "
        "that show one of them are trained on, of the others the share replay_share. Empty: all "
        "samples are trained on.",
    )
    replay_share: Annotated[Decimal, OmitDefault()] = Field(
        Decimal(1),
        ge=0,
        le=1,
        description="Share of the training samples without a new character that are trained on "
        "again (replayed), so that old characters are not forgotten; chosen by seed so that shows "
        "and characters are as equally frequent as possible. 1: all.",
    )

    @model_validator(mode="after")
    def _validate_shares(self) -> DatasetSettings:
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share and test_share leave nothing to train on")
        return self

    @model_validator(mode="after")
    def _validate_replay(self) -> DatasetSettings:
        if self.replay_share < 1 and not self.new_characters:
            raise ValueError(
                f"replay_share is {self.replay_share}, but new_characters names no character: "
                "name the characters that are added, or leave replay_share out"
            )
        both = sorted({*self.new_characters} & {*self.excluded_characters})
        if both:
            raise ValueError(f"{both[0]} is in new_characters and in excluded_characters")
        return self
