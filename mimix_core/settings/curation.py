"""Settings from episodes to captioned clips."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mimix_core.keys import Immaterial
from mimix_core.refs import Frozen


class SceneSettings(Frozen):
    """Shot boundaries and what each shot is like."""

    detector: Literal["adaptive", "content"] = Field("adaptive", description="PySceneDetect's.")
    threshold: float = Field(3.0, gt=0, description="Of the detector; adaptive: 3, content: 27.")
    analysis_height: int = Field(180, ge=64, description="Frames are analysed at this height.")
    min_scene_frames: int = Field(
        1, ge=1, description="Above 1, shorter shots join a neighbour: clips may hold both."
    )
    max_black_share: float = Field(0.5, description="More black frames reject the scene.")
    max_frozen_share: float = Field(0.5, description="More unchanged frames reject the scene.")
    decode_threads: Annotated[int, Immaterial()] = Field(2, ge=0, description="0: one a core.")


class OverlaySettings(Frozen):
    """Subtitles and credits at the bottom, found by OCR and cut away (paper, section 3.3)."""

    backend: Literal["rapidocr", "none"] = Field("rapidocr", description="none: keep all.")
    sampled_frames: int = Field(16, ge=4, description="Frames looked at per episode.")
    bottom_band: float = Field(0.30, gt=0, lt=1, description="Share of the height looked at.")
    min_share: float = Field(
        0.15, ge=0, le=1, description="Text must stand there in this share of the frames."
    )
    max_height_loss: float = Field(0.25, ge=0, lt=1, description="A deeper cut rejects the clip.")
    margin: float = Field(0.01, ge=0, description="Cut this share of the height above the text.")


class ClipSettings(Frozen):
    """81 frames at 16/s on the exact grid, cropped and fitted to the training bucket."""

    width: int = Field(832, gt=0, multiple_of=16)
    height: int = Field(480, gt=0, multiple_of=16)
    fit: Literal["crop", "pad"] = Field("crop", description="How the aspect ratio is met.")
    stride: Decimal | None = Field(
        None, gt=0, description="Seconds between clip starts; empty: no overlap (81/16 s)."
    )
    margin: Decimal = Field(
        Decimal("0.05"), ge=0, description="Seconds kept away from both ends of a scene."
    )
    crf: int = Field(16, ge=0, le=51, description="x264 quality; 16 is visually lossless.")
    preset: str = Field("fast", description="x264 preset.")
    encoders: Annotated[int, Immaterial()] = Field(
        2, ge=1, description="Clips encoded at a time, each on one thread."
    )


class DuplicateSettings(Frozen):
    """Clips that another episode already has: openings, recaps, reused footage."""

    min_similarity: float = Field(
        0.97, gt=0, le=1, description="Clips at least this similar are the same footage."
    )


class TranscriptSettings(Frozen):
    """Dialogue for the captioner: sidecar subtitles first, then speech recognition."""

    speech: Literal["none", "faster-whisper"] = Field(
        "none", description="For episodes without subtitles."
    )
    model: Annotated[Path | None, Immaterial()] = Field(
        None, description="Folder of a faster-whisper model."
    )


class CaptionSettings(Frozen):
    """`[Character: X], does. [scene-style:cartoon]` captions (paper, section 3.1)."""

    backend: Literal["script"] = Field("script", description="Who captions.")
    min_overlap: Decimal = Field(
        Decimal("0.5"), gt=0, description="An action counts when this many seconds are in the clip."
    )
    max_words: int = Field(
        120, ge=8, description="Longer captions fail their check; a composite's may have twice."
    )
