"""Label stages, reasons and metrics for readers who are new to MiMix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from mimix_core.engine.registry import get_stage, pipeline_stages
from mimix_core.tables import Reason

REASONS: Mapping[str, str] = {
    Reason.UNREADABLE_VIDEO: "the video is unreadable",
    Reason.NO_VIDEO_STREAM: "no video stream in the file",
    Reason.VIDEO_TRUNCATED: "the file is truncated",
    Reason.VIDEO_DAMAGED: "the file is damaged",
    Reason.VIDEO_TOO_LARGE: "the frame size is too large",
    Reason.DECODER_CRASHED: "the decoder crashed",
    Reason.DECODER_HUNG: "the decoder hung",
    Reason.UNFORESEEN_ERROR: "unexpected error",
    Reason.EPISODE_UNUSABLE: "the episode is unusable",
    Reason.SCENE_TRANSITION: "a dissolve or fade",
    Reason.SCENE_CLOCK_BREAK: "its timestamps do not increase",
    Reason.SCENE_DAMAGED: "damaged frames",
    Reason.SCENE_TOO_SHORT: "too short for a clip",
    Reason.SCENE_BLACK: "black",
    Reason.SCENE_FROZEN: "no motion",
    Reason.SCENE_CREDITS: "credits",
    Reason.CROP_TOO_DEEP: "text covers too much",
    Reason.TEXT_REMAINS: "text remains in the image",
    Reason.SOURCE_TOO_SMALL: "the source is too small",
    Reason.DETECTOR_FAILED: "the detector failed",
    Reason.CLIP_BLACK: "the clip is black",
    Reason.CLIP_FROZEN: "the clip is frozen",
    Reason.CLIP_BLURRED: "the clip is blurred",
    Reason.CLIP_WITHOUT_MOTION: "hardly any motion",
    Reason.NEAR_DUPLICATE: "duplicate of another clip",
    Reason.ENCODE_FAILED: "encoding failed",
    Reason.PROOF_FAILED: "verification of the encoded clip failed",
    Reason.SUBTITLES_UNREADABLE: "the subtitles are unreadable",
    Reason.NO_ACTION_IN_SCRIPT: "no known character acts",
    Reason.NO_CHARACTER: "no known character is visible",
    Reason.LEFT_OUT_BY_HAND: "excluded manually",
    Reason.CAPTION_CHECK_FAILED: "the caption failed validation",
    Reason.CAPTION_REFUSED: "the model refused to caption it",
    Reason.CAPTION_TRUNCATED: "the model's caption was truncated",
    Reason.CAPTION_INVALID: "the model's answer was not a caption",
    Reason.CAPTION_REJECTED: "the provider rejected the request",
    Reason.CAPTION_UNAVAILABLE: "the captioning model was unavailable",
    Reason.NOT_LOCATED: "the character was not found",
    Reason.LOCATE_FAILED: "locating the character failed",
    Reason.MASK_ABSENT: "absent in too many frames",
    Reason.MASK_AREA: "too small or too large",
    Reason.MASK_UNSTABLE: "the mask flickers",
    Reason.MASK_JUMPS: "the mask jumps",
    Reason.MASK_FLICKERS: "the mask flickers",
    Reason.MASK_FRAGMENTED: "the mask is in pieces",
    Reason.MASK_HOLES: "the mask has holes",
    Reason.MASK_AT_BORDER: "cut off by the frame",
    Reason.MASK_LEAVES_BOX: "the mask leaves its box",
    Reason.MASK_MISSES_BOX: "the mask covers only a part",
    Reason.MASK_UNSURE: "low confidence in the mask",
    Reason.SEGMENT_FAILED: "segmentation failed",
    Reason.ACTS_WITH_THINGS: "acts with things that the cutout lacks",
    Reason.ACTS_WITH_OTHERS: "acts with a character that would be missing",
    Reason.NO_PLACE: "no valid placement in the scene",
    Reason.NO_GROUND: "no ground under its feet in the scene",
    Reason.RENDER_FAILED: "rendering failed",
    Reason.NOT_NEEDED_FOR_RATIO: "not needed for the ratio",
    Reason.HELD_OUT: "held out from training",
    Reason.NO_BACKGROUND: "no suitable background",
    Reason.NO_CAPTION: "has no caption",
    Reason.NO_LATENT: "has no latent",
    Reason.SIZE_DOES_NOT_FIT: "unsuitable size for the model",
    Reason.GENERATION_FAILED: "generation failed",
    Reason.METRIC_FAILED: "the metric failed",
    Reason.NO_VIDEO: "no video",
    Reason.ANSWER_REFUSED: "the judge refused",
    Reason.ANSWER_TRUNCATED: "the judge's answer was truncated",
    Reason.ANSWER_INVALID: "the judge's answer was invalid",
    Reason.ANSWER_REJECTED: "the provider rejected the question",
    Reason.ANSWER_UNAVAILABLE: "the judge was unavailable",
    Reason.UPSTREAM_FAILED: "an earlier stage failed",
}

METRICS: Mapping[str, str] = {
    "subject_consistency": "Does the subject look the same in all frames?",
    "background_consistency": "Does the background look the same in all frames?",
    "motion_smoothness": "Is the motion smooth?",
    "dynamic_degree": "How much motion is there?",
    "imaging_quality": "Is each frame free of blur, noise and blocks?",
    "aesthetic_quality": "How aesthetic is it?",
    "overall_consistency": "Does it match the prompt?",
    "identity": "Does it look like the character?",
    "motion": "Does the character move as it does in its show?",
    "style": "Does each character keep the style of its world?",
    "interaction": "Do the characters interact?",
}

REAL_BACKBONES = frozenset({"wan2.1-t2v-14b", "wan2.1-t2v-1.3b", "wan2.2-ti2v-5b"})


def reason_label(code: str) -> str:
    """Return the label of a reason; a reason without one is shown by its code."""
    return REASONS.get(code, code.replace("_", " "))


@cache
def stage_order() -> tuple[str, ...]:
    """List the names of MiMix's stages in pipeline order."""
    return tuple(stage.name for stage in pipeline_stages())


def stage_title(name: str) -> str:
    """Return the title of a stage from its definition."""
    return get_stage(name).title


@dataclass(frozen=True)
class CaptionSpan:
    """A part of a caption. ``kind``: text, character or style; ``color``: number of its color."""

    kind: str
    text: str
    color: int = 0


NUM_COLORS = 8
_TAG = re.compile(r"\[(Character|scene-style):\s*([^\]\n]+?)\s*\]")


def split_caption(caption: str, colors: Mapping[str, int]) -> tuple[CaptionSpan, ...]:
    """Split a caption at its tags; names outside ``colors`` get the first color."""
    spans: list[CaptionSpan] = []
    position = 0
    for match in _TAG.finditer(caption):
        if match.start() > position:
            spans.append(CaptionSpan("text", caption[position : match.start()]))
        kind = "character" if match[1] == "Character" else "style"
        spans.append(CaptionSpan(kind, match[2], colors.get(match[2], 0)))
        position = match.end()
    if position < len(caption):
        spans.append(CaptionSpan("text", caption[position:]))
    return tuple(spans)


def assign_colors(names: Iterable[str]) -> dict[str, int]:
    """Assign a color to each character, in the order of the cast."""
    return {name: index % NUM_COLORS for index, name in enumerate(names)}


def format_clock(seconds: float) -> str:
    """Format seconds as ``1:02:03`` or ``2:03``."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
