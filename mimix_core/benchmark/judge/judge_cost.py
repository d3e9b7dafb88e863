"""Estimate requests, tokens and cost of judging before any request is sent."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from mimix_core.benchmark.judge import judge_prompts
from mimix_core.benchmark.judge.authors_mode import build_authors_question
from mimix_core.benchmark.judge.evaluation_plan import (
    list_rating_tasks,
    load_prompt_context,
    validate_judge_inputs,
)
from mimix_core.benchmark.judge.judge_client import require_judge_vlm
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.benchmark.judge.pairwise import list_comparisons
from mimix_core.benchmark.judge.rubric import ASPECTS, load_authors_rubric
from mimix_core.media.images import JpegOptions, encode_gray_jpeg
from mimix_core.settings.judge_settings import JudgeSettings, JudgeVlmSettings
from mimix_core.vlm import CostEstimate, ImagePart, estimate_cost
from mimix_core.vlm.prices import GEMINI_VIDEO_FPS

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
    if settings.mode == "authors":
        return JudgeCost(_estimate_authors_cost(inputs, settings, vlm), None)
    context = load_prompt_context(inputs, settings, vlm)
    frames = _placeholder_frames(settings, settings.fps)
    rating_sample = [
        judge_prompts.build_rating_question("sample", context, prompt, frames, aspect, 0)
        for prompt in inputs.prompts
        for aspect in ASPECTS
    ]
    count = _count_ratings(inputs, settings)
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


def _estimate_authors_cost(
    inputs: JudgeInputs, settings: JudgeSettings, vlm: JudgeVlmSettings
) -> CostEstimate:
    validate_judge_inputs(inputs)
    rubric = load_authors_rubric(inputs.rubric.path)
    frames = _placeholder_frames(settings, GEMINI_VIDEO_FPS)
    sample = [
        build_authors_question("sample", rubric, vlm, prompt, frames, aspect)
        for prompt in inputs.prompts
        for aspect in ASPECTS
    ]
    return estimate_cost(sample, _count_ratings(inputs, settings), vlm)


def _count_ratings(inputs: JudgeInputs, settings: JudgeSettings) -> int:
    tasks = list_rating_tasks(inputs, settings).values()
    return sum(item.video is not None for item, _, _ in tasks)


def _placeholder_frames(settings: JudgeSettings, fps: float) -> tuple[ImagePart, ...]:
    """Build as many gray frames as a video is sampled to; a video file is billed by frames too."""
    assert settings.vlm is not None
    options = JpegOptions(settings.image_size, settings.jpeg_quality)
    jpeg = encode_gray_jpeg(*TYPICAL_SIZE, options)
    count = floor(TYPICAL_SECONDS * fps) + 1
    return (ImagePart(jpeg, detail=settings.vlm.image_detail),) * count
