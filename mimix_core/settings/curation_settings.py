"""Settings from episodes to captioned clips."""

from __future__ import annotations

import codecs
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mimix_core.engine.artifacts import Frozen
from mimix_core.engine.cache_key import Immaterial
from mimix_core.settings.vlm_settings import VlmSettings

Preset = Literal[
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
]
"""What x264 knows."""


class SceneSettings(Frozen):
    """Shot boundaries and what each shot is like."""

    detectors: tuple[Literal["adaptive", "content", "blend", "transnetv2"], ...] = Field(
        ("adaptive", "content", "blend"),
        min_length=1,
        description="What any of them finds is a boundary. adaptive, content: PySceneDetect's, "
        "for cuts. blend: dissolves, fades, and cuts of low contrast. transnetv2: a network.",
    )
    adaptive_threshold: float = Field(3.0, gt=0, description="Change, in times of that around.")
    content_threshold: float = Field(27.0, gt=0, description="Change of a pixel, mean of HSV.")
    blend_residual: float = Field(
        0.35,
        gt=0,
        lt=0.5,
        description="How far the middle of a dissolve may be from the mean of its ends, as a share "
        "of their distance.",
    )
    blend_misfit: float = Field(
        1.0,
        gt=0,
        description="How far the contrast may be from a dissolve's, as a share of its loss: median "
        "of the picture's parts, and four times the whole.",
    )
    network_threshold: float = Field(0.5, gt=0, lt=1, description="Score of transnetv2.")
    analysis_height: int = Field(180, ge=64, description="Frames are analysed at this height.")
    max_black_share: float = Field(0.5, description="More black frames reject the scene.")
    max_frozen_share: float = Field(0.5, description="More unchanged frames reject the scene.")
    max_damaged_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="More damaged frames fail the episode; up to it, only their scenes are lost.",
    )
    decode_threads: Annotated[int, Immaterial()] = Field(2, ge=0, description="0: one a core.")


class OverlaySettings(Frozen):
    """Subtitles at the bottom are cut away, credits reject their scene (paper, section 3.3)."""

    backend: Literal["rapidocr", "none"] = Field(
        "rapidocr", description="none: no text is looked for; black borders are."
    )
    sampled_frames: int = Field(
        16,
        ge=4,
        description="Points over the episode looked at, besides two or more in each scene that "
        "can give a clip.",
    )
    bottom_band: float = Field(0.30, gt=0, lt=1, description="Share of the height looked at.")
    min_share: float = Field(
        0.15,
        ge=0,
        le=1,
        description="Text must stand there in this share of the frames, or exactly at one place "
        "in several scenes.",
    )
    max_height_loss: float = Field(0.25, ge=0, lt=1, description="A deeper cut rejects the scene.")
    margin: float = Field(0.01, ge=0, description="Cut this share of the height above the text.")
    credits_rows: int = Field(4, ge=2, description="A frame with so many rows of text is full.")
    credits_share: float = Field(
        0.5, gt=0, le=1, description="A scene with this share of such frames may be credits."
    )
    credits_seconds: Decimal = Field(
        Decimal(10),
        ge=0,
        description="Neighbouring ones that last so long are; at an end of the episode shorter "
        "ones too.",
    )


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
    preset: Preset = Field("fast", description="x264 preset.")
    audio: Literal["flac", "none"] = Field("flac", description="The clip's sound, kept beside it.")
    max_black_share: float = Field(
        0.25, ge=0, le=1, description="More black frames reject the clip."
    )
    max_frozen_share: float = Field(
        0.5, ge=0, le=1, description="More unchanged frames reject the clip."
    )
    min_sharpness: float = Field(
        5.0, ge=0, description="Less, as the scenes measure it, rejects the clip; 0: none."
    )
    min_motion: float = Field(
        0.0005, ge=0, description="Less mean change between frames (0..1) rejects it; 0: none."
    )
    encoders: Annotated[int, Immaterial()] = Field(
        2, ge=1, description="Clips encoded at a time, each on one thread."
    )
    decode_threads: Annotated[int, Immaterial()] = Field(2, ge=0, description="0: one a core.")


class DuplicateSettings(Frozen):
    """Clips that another episode already has: openings, recaps, reused footage."""

    min_likeness: float = Field(
        0.7, gt=0, le=1, description="Mean likeness of the pictures of a copy, at least."
    )
    min_motion: float = Field(
        0.5, gt=0, le=1, description="Share of its motion that a copy has in common, at least."
    )
    min_overlap: Decimal = Field(
        Decimal(2), ge=1, le=5, description="Seconds of a clip that the other one must hold."
    )
    within_episode: bool = Field(
        False, description="Also compare clips of one episode that do not overlap."
    )


class TranscriptSettings(Frozen):
    """Dialogue for the captioner: subtitles first, then speech recognition."""

    language: str = Field(
        "",
        pattern=r"^([A-Za-z]{2,3}([-_][A-Za-z0-9]+)*)?$",
        description="Preferred of several subtitles, and expected of speech (en, de); empty: any.",
    )
    fallback_encoding: str = Field(
        "cp1252",
        description="Of subtitle files that are not UTF-8, by Python's name; empty: they fail.",
    )
    speech: Literal["none", "faster-whisper"] = Field(
        "none", description="For episodes without subtitles."
    )
    model: Annotated[Path | None, Immaterial()] = Field(
        None, description="Folder of a faster-whisper model."
    )

    @field_validator("fallback_encoding", mode="after")
    @classmethod
    def _is_an_encoding(cls, name: str) -> str:
        if name:
            try:
                codecs.lookup(name)
            except LookupError as error:
                raise ValueError(f"{name!r} is no encoding that Python knows") from error
        return name


class CaptionSettings(Frozen):
    """`[Character: X], does. [scene-style:cartoon]` captions (paper, section 3.1)."""

    backend: Literal["script", "vlm"] = Field(
        "script", description="Who captions. vlm: the model under `vlm`."
    )
    min_overlap: Decimal = Field(
        Decimal("0.5"), gt=0, description="An action counts when this many seconds are in the clip."
    )
    max_words: int = Field(
        120, ge=8, description="Longer captions fail their check; a composite's may have twice."
    )
    max_tokens: int = Field(
        512, ge=16, description="As the text encoder counts; checked when there is a `tokenizer`."
    )
    tokenizer: Annotated[Path | None, Immaterial()] = Field(
        None, description="Folder with the text encoder's tokenizer.json (Wan: `tokenizer`)."
    )
    language: Literal["en", "any"] = Field("en", description="en: captions in English only.")
    overrides: Annotated[Path | None, Immaterial()] = Field(
        None, description="Captions written by hand: `mimix captions import` writes this file."
    )
    same_caption_alarm: Annotated[int, Immaterial()] = Field(
        5, ge=2, description="An episode with one caption on so many clips gives a warning."
    )

    vlm: VlmSettings = VlmSettings()
    vlm_secret: Annotated[str | None, Immaterial()] = Field(
        None, description="Prefect Secret block with the key, for runs without it in environment."
    )
    send: Literal["frames", "video"] = Field(
        "frames", description="What the model sees of a clip. video: backend gemini only."
    )
    frames: int = Field(10, ge=1, le=81, description="Sent of each clip, evenly over its time.")
    video_fps: float = Field(2.0, gt=0, le=16, description="Frames a second, with send: video.")
    picture_side: int = Field(512, ge=64, description="Longer side of what is sent, in pixels.")
    jpeg_quality: int = Field(85, ge=1, le=100)
    prompt: Annotated[Path | None, Immaterial()] = Field(
        None, description="A prompt file of your own; else captions/prompts/caption-v1.md."
    )
    neighbours: Literal["none", "before"] = Field(
        "none",
        description="before: each clip of a scene is told the caption of the one before, and waits "
        "for it.",
    )
    asked_again: int = Field(
        2, ge=0, le=5, description="Times that an answer with problems is asked for again."
    )
    unavailable_share: Annotated[float, Immaterial()] = Field(
        0.05,
        ge=0,
        le=1,
        description="More of the asked clips without any answer stop the episode: to be run again.",
    )

    @model_validator(mode="after")
    def _can_be_sent(self) -> CaptionSettings:
        if self.send == "video" and self.vlm.backend != "gemini":
            raise ValueError("send: video needs vlm.backend gemini")
        if self.vlm_secret is not None and self.vlm.api_key_env is None:
            raise ValueError("vlm_secret needs vlm.api_key_env: the variable to put the key into")
        return self

    def in_force(self) -> CaptionSettings:
        """Without what only backend vlm reads: a new model leaves a script's captions alone."""
        if self.backend == "vlm":
            return self
        fields = type(self).model_fields
        unread = ("vlm", "send", "frames", "video_fps", "picture_side", "jpeg_quality")
        return self.model_copy(
            update={name: fields[name].default for name in (*unread, "neighbours", "asked_again")}
        )
