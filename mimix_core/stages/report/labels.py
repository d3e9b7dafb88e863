"""Label stages, reasons and metrics for readers who are new to MiMix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from mimix_core.engine.registry import get_stage, pipeline_stages
from mimix_core.tables.reason_guide import REASON_GUIDES

REASONS: Mapping[str, str] = {reason.value: guide.label for reason, guide in REASON_GUIDES.items()}

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

RANDOM_BACKBONES = "tiny-random-"
"""Beginning of the names of backbones with random weights."""


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
