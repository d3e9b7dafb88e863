"""Estimate requests, tokens and cost of judging before any request is sent."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from mimix_core.benchmark.judge import judge_prompts
from mimix_core.benchmark.judge.evaluation_plan import (
    list_control_items,
    list_evaluation_items,
    load_prompt_context,
)
from mimix_core.benchmark.judge.judge_client import require_judge_vlm
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.benchmark.judge.judge_prompts import MessageParts, PromptContext
from mimix_core.benchmark.judge.pairwise import list_comparisons
from mimix_core.benchmark.judge.rubric import ASPECTS
from mimix_core.media.images import JpegOptions, encode_gray_jpeg
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.vlm import CostEstimate, estimate_cost

TYPICAL_SECONDS = 5
"""Length of a benchmark video: 81 frames at 16 frames per second."""

TYPICAL_SIZE = (832, 480)


@dataclass(frozen=True)
class JudgeCost:
    """Cost of rating single videos and negative controls, and of comparing pairs, if any."""

    ratings: CostEstimate
    comparisons: CostEstimate | None


def estimate_judge_cost(inputs: JudgeInputs, settings: JudgeSettings) -> JudgeCost:
    """Estimate the cost of all questions from one sample per prompt and aspect with gray frames.

    Cached answers are not subtracted. Raises BadInput for a budget without a known price.
    """
    vlm = require_judge_vlm(settings)
    context = load_prompt_context(inputs, settings, vlm)
    frames = _placeholder_frames(context)
    rating_sample = [
        judge_prompts.build_rating_question("sample", context, prompt, frames, aspect, 0)
        for prompt in inputs.prompts
        for aspect in ASPECTS
    ]
    videos = sum(item.video is not None for item in list_evaluation_items(inputs)) * len(ASPECTS)
    count = (videos + len(list_control_items(inputs, settings))) * settings.effective_samples
    comparison_cost = None
    if settings.mode == "strict" and len(inputs.systems) > 1:
        comparisons = [one for one in list_comparisons(inputs, settings) if not one.missing_reason]
        comparison_sample = [
            judge_prompts.build_comparison_question(
                "sample", context, prompt, (frames, frames), aspect, 0
            )
            for prompt in inputs.prompts
            for aspect in ASPECTS
        ]
        comparison_cost = estimate_cost(comparison_sample, len(comparisons), vlm)
    return JudgeCost(estimate_cost(rating_sample, count, vlm), comparison_cost)


def _placeholder_frames(context: PromptContext) -> MessageParts:
    """Build as many gray frames as a video is sampled to; a video file is billed by frames too."""
    options = JpegOptions(context.settings.image_size, context.settings.jpeg_quality)
    count = floor(TYPICAL_SECONDS * context.settings.fps) + 1
    return (context.build_image(encode_gray_jpeg(*TYPICAL_SIZE, options)),) * count
