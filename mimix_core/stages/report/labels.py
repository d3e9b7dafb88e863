"""What the page calls stages, reasons and metrics, for someone who meets MiMix here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mimix_core.tables import Reason


@dataclass(frozen=True)
class StageWords:
    """A stage's heading, what it does, and what one of its rows is (in the plural)."""

    title: str
    does: str
    rows: str


STAGES: Mapping[str, StageWords] = {
    "scenes": StageWords("Scenes", "Each episode is read once and split into shots.", "shots"),
    "overlays": StageWords(
        "Overlays",
        "Subtitles and black borders in the picture are looked for; the rectangle "
        "without them is kept. Credits are turned away.",
        "shots",
    ),
    "clips": StageWords(
        "Clips",
        "Shots that are long enough give clips of 81 frames, exactly 16 a second. "
        "Each is decoded again to prove it.",
        "clips, and shots that gave none",
    ),
    "duplicates": StageWords(
        "Duplicates",
        "Openings, recaps and other footage that an earlier clip shows already are turned away.",
        "clips",
    ),
    "transcripts": StageWords(
        "Transcripts", "Who speaks when: from subtitles, or by speech recognition.", "clips"
    ),
    "captions": StageWords(
        "Captions",
        "Each clip is described by who does what, with the names and the style as tags.",
        "clips",
    ),
    "cutouts": StageWords(
        "Cut-outs",
        "Characters are cut out of their clips frame by frame. Masks that flicker, "
        "leak or lose the character are turned away.",
        "characters in clips",
    ),
    "composites": StageWords(
        "Composites",
        "A character is pasted into a scene of the opposite style.",
        "composites, and cut-outs in none",
    ),
    "recaptions": StageWords(
        "Captions of composites",
        "Each composite gets a caption that names who was put in.",
        "composites",
    ),
    "dataset": StageWords(
        "Dataset", "Clips and composites at an exact ratio, split by episode.", "samples"
    ),
    "backbone": StageWords(
        "Backbone", "The text-to-video model that is to learn the characters.", "parts of the model"
    ),
    "latents": StageWords("Latents", "Each video as the model sees it, computed once.", "samples"),
    "embeddings": StageWords(
        "Embeddings", "Each caption as the model reads it, computed once.", "samples"
    ),
    "lora": StageWords(
        "Training", "Small added weights (LoRA) learn the characters; the model stays.", "samples"
    ),
    "videos": StageWords("Generation", "The trained model makes videos.", "prompts"),
    "samples": StageWords("Generated videos", "All of them in one table.", "videos"),
    "scores": StageWords(
        "Scores", "Generated videos and real footage go through the same metrics.", "measurements"
    ),
    "judgements": StageWords(
        "Ratings", "A vision-language model rates each video on four aspects.", "ratings"
    ),
}

REASONS: Mapping[str, str] = {
    Reason.UNREADABLE_VIDEO: "the video cannot be read",
    Reason.NO_VIDEO_STREAM: "no picture in the file",
    Reason.VIDEO_TRUNCATED: "the file breaks off",
    Reason.VIDEO_DAMAGED: "the file is damaged",
    Reason.VIDEO_TOO_LARGE: "the picture is too large",
    Reason.DECODER_CRASHED: "the decoder crashed",
    Reason.DECODER_HUNG: "the decoder stood still",
    Reason.UNFORESEEN_ERROR: "an error that nobody foresaw",
    Reason.EPISODE_UNUSABLE: "the episode is unusable",
    Reason.SCENE_TRANSITION: "a dissolve or fade",
    Reason.SCENE_DAMAGED: "damaged frames",
    Reason.SCENE_TOO_SHORT: "too short for a clip",
    Reason.SCENE_BLACK: "black",
    Reason.SCENE_FROZEN: "the picture stands still",
    Reason.SCENE_CREDITS: "credits",
    Reason.CROP_TOO_DEEP: "text covers too much",
    Reason.DETECTOR_FAILED: "the detector failed",
    Reason.CLIP_BLACK: "the clip is black",
    Reason.CLIP_FROZEN: "the clip stands still",
    Reason.CLIP_BLURRED: "the clip is blurred",
    Reason.CLIP_WITHOUT_MOTION: "hardly anything moves",
    Reason.NEAR_DUPLICATE: "shown before in another clip",
    Reason.ENCODE_FAILED: "encoding failed",
    Reason.PROOF_FAILED: "decoding it back did not agree",
    Reason.SUBTITLES_UNREADABLE: "the subtitles cannot be read",
    Reason.NO_ACTION_IN_SCRIPT: "nobody known does anything",
    Reason.NO_CHARACTER: "nobody of the cast is seen",
    Reason.LEFT_OUT_BY_HAND: "left out by hand",
    Reason.CAPTION_CHECK_FAILED: "the caption failed its check",
    Reason.CAPTION_REFUSED: "the model refused to caption it",
    Reason.CAPTION_TRUNCATED: "the model's caption broke off",
    Reason.CAPTION_INVALID: "the model's answer was no caption",
    Reason.CAPTION_REJECTED: "the caption was turned away",
    Reason.CAPTION_UNAVAILABLE: "the captioning model could not be reached",
    Reason.NOT_LOCATED: "the character was not found",
    Reason.LOCATE_FAILED: "looking for the character failed",
    Reason.MASK_ABSENT: "absent in too many frames",
    Reason.MASK_AREA: "too small or too large",
    Reason.MASK_UNSTABLE: "the mask flickers",
    Reason.MASK_JUMPS: "the mask jumps",
    Reason.MASK_FLICKERS: "the mask flickers",
    Reason.MASK_FRAGMENTED: "the mask is in pieces",
    Reason.MASK_HOLES: "the mask has holes",
    Reason.MASK_AT_BORDER: "cut off by the frame",
    Reason.MASK_LEAVES_BOX: "the mask leaks out of its box",
    Reason.MASK_MISSES_BOX: "the mask is only a part",
    Reason.MASK_UNSURE: "the backend is not sure of the mask",
    Reason.SEGMENT_FAILED: "segmentation failed",
    Reason.ACTS_WITH_OTHERS: "acts with somebody it would be without",
    Reason.NO_PLACE: "no place in the scene",
    Reason.RENDER_FAILED: "rendering failed",
    Reason.NOT_NEEDED_FOR_RATIO: "not needed for the ratio",
    Reason.HELD_OUT: "held out from training",
    Reason.NO_BACKGROUND: "no scene fits",
    Reason.NO_CAPTION: "has no caption",
    Reason.NO_LATENT: "has no latent",
    Reason.SIZE_DOES_NOT_FIT: "its size does not fit the model",
    Reason.GENERATION_FAILED: "generation failed",
    Reason.METRIC_FAILED: "the metric failed",
    Reason.NO_VIDEO: "there is no video",
    Reason.ANSWER_REFUSED: "the judge refused",
    Reason.ANSWER_TRUNCATED: "the judge's answer was cut off",
    Reason.ANSWER_INVALID: "the judge's answer was not readable",
    Reason.ANSWER_REJECTED: "the question was turned away",
    Reason.ANSWER_UNAVAILABLE: "the judge could not be reached",
    Reason.UPSTREAM_FAILED: "an earlier stage failed",
}

METRICS: Mapping[str, str] = {
    "subject_consistency": "Does the subject look the same in all frames?",
    "background_consistency": "Does the background look the same in all frames?",
    "motion_smoothness": "Does it move without jumps?",
    "dynamic_degree": "How much does it move?",
    "imaging_quality": "Is each frame free of blur, noise and blocks?",
    "aesthetic_quality": "Is it nice to look at?",
    "overall_consistency": "Does it show what the prompt says?",
    "identity": "Is it the character, by looks?",
    "motion": "Does the character move as it does in its show?",
    "style": "Does each character keep the style of its world?",
    "interaction": "Do the characters act on each other?",
}

REAL_BACKBONES = frozenset({"wan2.1-t2v-14b", "wan2.1-t2v-1.3b", "wan2.2-ti2v-5b"})


def reason(code: str) -> str:
    """What a person calls a reason; a new one goes by its code."""
    return REASONS.get(code, code.replace("_", " "))


def stage(name: str) -> StageWords:
    """What a person calls a stage; a new one goes by its name."""
    return STAGES.get(name, StageWords(name.capitalize(), "", "rows"))


@dataclass(frozen=True)
class Words:
    """A stretch of a caption: ``kind`` is text, character or style; ``tone`` its colour."""

    kind: str
    text: str
    tone: int = 0


TONES = 8
_TAG = re.compile(r"\[(Character|scene-style):\s*([^\]\n]+?)\s*\]")


def caption_words(caption: str, tones: Mapping[str, int]) -> tuple[Words, ...]:
    """The caption cut at its tags; a name outside ``tones`` keeps the first colour."""
    found: list[Words] = []
    at = 0
    for match in _TAG.finditer(caption):
        if match.start() > at:
            found.append(Words("text", caption[at : match.start()]))
        kind = "character" if match[1] == "Character" else "style"
        found.append(Words(kind, match[2], tones.get(match[2], 0)))
        at = match.end()
    if at < len(caption):
        found.append(Words("text", caption[at:]))
    return tuple(found)


def tones(names: Iterable[str]) -> dict[str, int]:
    """A colour for each character, in the order of the cast."""
    return {name: index % TONES for index, name in enumerate(names)}


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
