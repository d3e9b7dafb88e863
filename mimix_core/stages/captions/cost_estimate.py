"""Estimate the cost of captioning before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mimix_core.domain.timeline import clip_duration
from mimix_core.settings import CaptionSettings, ClipSettings
from mimix_core.stages.captions.caption_inputs import ClipDialogue, ShowProfile
from mimix_core.stages.captions.prompt_template import PromptTemplate
from mimix_core.stages.captions.vlm_prompt import (
    ClipVideo,
    blank_image_parts,
    build_caption_request,
    build_show_prompt,
    clip_text_part,
)
from mimix_core.vlm import CostEstimate, VlmRequest, estimate_cost

# Five seconds of speech without a pause are about twelve words; most clips have less.
_SAMPLE_DIALOGUE = "a dozen words of talk, such as fill the five seconds of a clip"


@dataclass(frozen=True)
class ShowCostEstimate:
    """The clips of one show and the cost of captioning them.

    ``exact_clip_count``: the clips exist and are counted; if false, ``clips`` is the maximum that
    the episodes' durations allow.
    """

    show: str
    clips: int
    exact_clip_count: bool
    estimate: CostEstimate


def max_clip_count(seconds: Fraction, clips: ClipSettings) -> int:
    """Return how many clips an episode would have as a single scene."""
    duration, stride = clip_duration(clips.frames, clips.rate), clips.stride_seconds
    if seconds < duration:
        return 0
    return int((seconds - duration) // (duration if stride is None else Fraction(stride))) + 1


def estimate_show_cost(
    show: ShowProfile,
    clips: int,
    *,
    exact_clip_count: bool,
    template: PromptTemplate,
    settings: CaptionSettings,
    clip_settings: ClipSettings,
) -> ShowCostEstimate:
    """Estimate the cost of ``clips`` clips, with one request each.

    Raises BadInput for a reference that is not an image, or a budget without a known price.
    """
    request = _sample_request(show, template, settings, clip_settings)
    return ShowCostEstimate(
        show.id, clips, exact_clip_count, estimate_cost([request], clips, settings.vlm)
    )


def _sample_request(
    show: ShowProfile,
    template: PromptTemplate,
    settings: CaptionSettings,
    clip_settings: ClipSettings,
) -> VlmRequest[Any]:
    """Build the request of a typical clip of the show, with gray images."""
    clip = ClipVideo(
        frames=clip_settings.frames,
        rate_num=clip_settings.rate.numerator,
        rate_den=clip_settings.rate.denominator,
        sha256="",
    )
    prompt = build_show_prompt(show, template, settings)
    dialogue = ClipDialogue(
        available=True, text=_SAMPLE_DIALOGUE, lines=((0, 5000, _SAMPLE_DIALOGUE),)
    )
    text = clip_text_part(prompt, clip, dialogue=dialogue)
    images = blank_image_parts(
        prompt,
        clip_duration(clip_settings.frames, clip_settings.rate),
        clip_settings.width,
        clip_settings.height,
    )
    messages = prompt.build_messages(text, *images)
    return build_caption_request("sample", messages, show.roster(), show.style, settings)
