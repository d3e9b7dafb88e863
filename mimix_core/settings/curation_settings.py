"""Settings from episodes to clips and their dialogue."""

from __future__ import annotations

import codecs
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from mimix_core.domain.language_codes import LANGUAGE_PATTERN
from mimix_core.domain.timeline import CLIP_FRAMES, CLIP_SECONDS
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault

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
"""The presets of x264."""


class SceneSettings(FrozenModel):
    """Detection of shot boundaries and quality of each shot."""

    detectors: tuple[Literal["adaptive", "content", "gradual", "wipes", "transnetv2"], ...] = Field(
        ("adaptive", "content", "gradual", "wipes"),
        min_length=1,
        description="Boundary detectors, whose results are merged. adaptive, content: hard cuts "
        "by PySceneDetect. gradual: dissolves, fades and cuts of low contrast. "
        "wipes: wipes, irises and slides; also rejects some sudden motion. "
        "transnetv2: a neural network.",
    )
    adaptive_threshold: float = Field(
        3.0,
        gt=0,
        description="Frame difference of a cut, relative to the mean of the frames around it.",
    )
    content_threshold: float = Field(
        27.0, gt=0, description="Mean HSV difference per pixel (0 to 255) of a cut."
    )
    dissolve_max_residual: float = Field(
        0.35,
        gt=0,
        lt=0.5,
        description="Maximum distance of a dissolve's middle frame from the mean of its end "
        "frames, as a share of the distance between the ends.",
    )
    dissolve_max_contrast_residual: float = Field(
        1.0,
        gt=0,
        description="Maximum deviation of the contrast curve from a dissolve's, as a share of "
        "the contrast loss: median over the parts of the frame; four times as much "
        "for the entire frame.",
    )
    transnetv2_threshold: float = Field(
        0.5, gt=0, lt=1, description="Minimum TransNetV2 score of a boundary."
    )
    analysis_height: int = Field(
        180, ge=64, description="Height in pixels that frames are downscaled to for analysis."
    )
    max_black_share: float = Field(
        0.5, description="Reject a scene with a larger share of black frames."
    )
    max_frozen_share: float = Field(
        0.5, description="Reject a scene with a larger share of unchanged frames."
    )
    max_damaged_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Fail an episode with a larger share of damaged frames; up to it, only the "
        "scenes with damaged frames are rejected.",
    )
    decode_threads: Annotated[int, ExcludeFromKey()] = Field(
        2, ge=0, description="Decoder threads; 0 uses one per core."
    )


class OverlaySettings(FrozenModel):
    """Crop subtitles at the bottom, logos and borders; reject credits (paper, section 3.3)."""

    backend: Literal["rapidocr", "none"] = Field(
        "rapidocr",
        description="Text detector; none skips text detection and finds letterboxes only.",
    )
    sampled_frames: int = Field(
        16,
        ge=4,
        description="Frames sampled over the episode, in addition to at least two of each scene "
        "that can contain a clip.",
    )
    bottom_band: float = Field(
        0.30,
        gt=0,
        lt=1,
        description="Height of the band at the bottom that is searched for subtitles, as a "
        "share of the frame height.",
    )
    min_text_share: float = Field(
        0.15,
        ge=0,
        le=1,
        description="Minimum share of the sampled frames with text in the same rows; text at "
        "exactly the same position in several scenes counts too.",
    )
    max_height_loss: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="Reject scenes whose crop removes a larger share of the frame height, or of "
        "its width to crop text at the sides.",
    )
    remaining_text: Literal["reject", "crop", "keep"] = Field(
        "crop",
        description="What happens to text outside of the bottom band. crop: text that recurs over "
        "the episode (logos, watermarks, lines at the top or the sides) is cropped within "
        "max_height_loss, or else its scenes are rejected; other text is kept up to "
        "max_text_share. reject: every scene with text is rejected. keep: all is kept.",
    )
    max_text_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Reject scenes with text on a larger share of the cropped image, as the mean "
        "of the sampled frames; not with remaining_text keep.",
    )
    margin: float = Field(
        0.01, ge=0, description="Share of the frame height that is cropped above the text."
    )
    credits_rows: int = Field(4, ge=2, description="Minimum rows of text of a frame of credits.")
    credits_share: float = Field(
        0.5, gt=0, le=1, description="Minimum share of such frames of a scene of credits."
    )
    credits_seconds: Decimal = Field(
        Decimal(10),
        ge=0,
        description="Minimum duration in seconds of consecutive scenes of credits; shorter ones "
        "count at the start and the end of an episode.",
    )


class ClipSettings(FrozenModel):
    """Clips at an exact frame rate, cropped and resized to the training resolution."""

    frame_rate: Annotated[Literal[16, 24], OmitDefault()] = Field(
        16,
        description="Frames per second of clips, composites and generated videos: that of the "
        "videos on which the backbone was trained. Wan2.1 and Wan2.2-T2V-A14B: 16; "
        "Wan2.2-TI2V-5B: 24, with 121 `frames`.",
    )
    frames: int = Field(
        CLIP_FRAMES,
        ge=5,
        description="Frames of every clip: 4k + 1, from 5 to 81 (the paper's number), or to 121 at "
        "24 frames per second. Fewer frames also use shorter shots: 49 frames take a shot of 3.2 "
        "seconds, 33 one of 2.2.",
    )
    width: int = Field(832, gt=0, multiple_of=16, description="Width of clips in pixels.")
    height: int = Field(480, gt=0, multiple_of=16, description="Height of clips in pixels.")
    fit: Literal["crop", "pad"] = Field(
        "crop", description="How the aspect ratio is matched: crop the frame, or pad it."
    )
    min_source_width: int = Field(
        240,
        ge=0,
        description="Reject scenes of which fewer pixels in width remain after cropping, if clips "
        "are wider; 0 disables the check.",
    )
    min_source_height: int = Field(
        136,
        ge=0,
        description="Reject scenes of which fewer pixels in height remain after cropping, if clips "
        "are higher; 0 disables the check.",
    )
    stride_seconds: Decimal | None = Field(
        None,
        gt=0,
        description="Seconds between the starts of two clips. Empty: consecutive clips without "
        "overlap (81/16 s for 81 frames at 16 per second).",
    )
    scene_margin_seconds: Decimal = Field(
        Decimal("0.05"), ge=0, description="Seconds left out at both ends of a scene."
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
    audio: Literal["flac", "none"] = Field(
        "flac", description="Codec of the clip's audio file; none writes no audio."
    )
    max_black_share: float = Field(
        0.25, ge=0, le=1, description="Reject a clip with a larger share of black frames."
    )
    max_frozen_share: float = Field(
        0.5, ge=0, le=1, description="Reject a clip with a larger share of unchanged frames."
    )
    min_sharpness: float = Field(
        5.0,
        ge=0,
        description="Reject a less sharp clip, by the sharpness that the scenes stage measures; "
        "0 disables the check.",
    )
    min_motion: float = Field(
        0.0005,
        ge=0,
        description="Reject a clip with a smaller mean difference between frames (0 to 1); 0 "
        "disables the check.",
    )
    encoder_workers: Annotated[int, ExcludeFromKey()] = Field(
        2, ge=1, description="Clips encoded at the same time, each on a single thread."
    )
    decode_threads: Annotated[int, ExcludeFromKey()] = Field(
        2, ge=0, description="Decoder threads; 0 uses one per core."
    )

    @field_validator("frames")
    @classmethod
    def _validate_frames(cls, frames: int, info: ValidationInfo) -> int:
        rate = info.data.get("frame_rate")
        longest = CLIP_FRAMES if rate is None else CLIP_SECONDS * rate + 1
        if frames > longest:
            raise ValueError(
                f"{frames} frames are longer than {CLIP_SECONDS} s at {rate} frames per second; "
                f"choose at most {longest}"
            )
        if frames % 4 != 1:
            below = frames - (frames - 1) % 4
            raise ValueError(
                f"{frames} frames: Wan's VAE takes 4k + 1 frames; choose {below} or {below + 4}"
            )
        return frames

    @property
    def rate(self) -> Fraction:
        """Return the frames per second as an exact number."""
        return Fraction(self.frame_rate)


class DuplicateSettings(FrozenModel):
    """Clips whose footage another episode already contains: openings, recaps, reused shots."""

    min_frame_similarity: float = Field(
        0.7, gt=0, le=1, description="Minimum mean similarity of the frames of a duplicate."
    )
    min_motion_similarity: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Minimum share of its motion that a duplicate has in common with the original.",
    )
    min_overlap_seconds: Decimal = Field(
        Decimal(2),
        ge=1,
        le=5,
        description="Minimum seconds of a clip that the other clip contains as well.",
    )
    within_episode: bool = Field(
        False, description="Also compare clips of the same episode that do not overlap."
    )
    mirrored: bool = Field(
        True, description="Also find footage that is mirrored left to right in the other clip."
    )
    framed: bool = Field(
        True,
        description="Also find footage that one of the clips shows smaller: within a decorative "
        "frame or border, or as a picture-in-picture.",
    )


class TranscriptSettings(FrozenModel):
    """Dialogue for the captioner: from subtitles, or else from speech recognition."""

    language: str = Field(
        "",
        pattern=LANGUAGE_PATTERN,
        description="Preferred language of subtitles and audio tracks, and expected spoken "
        "language, as a code such as en or de; a show's own language in the library comes first. "
        "Empty: any.",
    )
    fallback_encoding: str = Field(
        "",
        description="Encoding of subtitle files that are not UTF-8 or UTF-16, as named in Python. "
        "Empty: it is detected, and files whose encoding is not certain fail.",
    )
    asr_backend: Literal["none", "faster-whisper"] = Field(
        "none", description="Speech recognition for episodes without subtitles."
    )
    asr_model: Annotated[Path | None, ExcludeFromKey()] = Field(
        None, description="Folder of a faster-whisper model."
    )

    @field_validator("fallback_encoding", mode="after")
    @classmethod
    def _validate_encoding(cls, name: str) -> str:
        if name:
            try:
                codecs.lookup(name)
            except LookupError as error:
                raise ValueError(f"Python has no encoding {name!r}") from error
        return name
