"""What judging will take, told before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from mimix_core.benchmark.judge import judge_prompts
from mimix_core.benchmark.judge.evaluation_plan import controls, desk, subjects
from mimix_core.benchmark.judge.judge_client import judge_vlm
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.benchmark.judge.judge_prompts import Desk, Parts
from mimix_core.benchmark.judge.pairwise import duels
from mimix_core.benchmark.judge.rubric import ASPECTS
from mimix_core.media.images import PictureSize, blank_jpeg
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.vlm import Estimate, estimate

USUAL_SECONDS = 5
"""Of a video of the benchmark: 81 frames at 16 a second."""

USUAL_SIZE = (832, 480)


@dataclass(frozen=True)
class Cost:
    """``ratings`` of single videos, spoilt versions included; ``duels`` in both orders, if any."""

    ratings: Estimate
    duels: Estimate | None


def costs(inputs: JudgeInputs, settings: JudgeSettings) -> Cost:
    """What all questions take, by one of each kind with grey frames for every prompt.

    What is answered already is not taken off. Raises BadInput for a budget without a known price.
    """
    vlm = judge_vlm(settings)
    given = desk(inputs, settings, vlm)
    frames = _grey_frames(given)
    rated = [
        judge_prompts.rating("sample", given, prompt, frames, aspect, 0)
        for prompt in inputs.prompts
        for aspect in ASPECTS
    ]
    videos = sum(one.video is not None for one in subjects(inputs)) * len(ASPECTS)
    count = (videos + len(controls(inputs, settings))) * settings.effective_samples
    compared = None
    if settings.mode == "strict" and len(inputs.systems) > 1:
        asked = [duel for duel in duels(inputs, settings) if not duel.absent]
        sample = [
            judge_prompts.comparison("sample", given, prompt, (frames, frames), aspect, 0)
            for prompt in inputs.prompts
            for aspect in ASPECTS
        ]
        compared = estimate(sample, len(asked), vlm)
    return Cost(estimate(rated, count, vlm), compared)


def _grey_frames(given: Desk) -> Parts:
    """As many pictures as a video has shown; a video costs its frames, too."""
    size = PictureSize(given.settings.image_size, given.settings.jpeg_quality)
    count = floor(USUAL_SECONDS * given.settings.fps) + 1
    return (given.image(blank_jpeg(*USUAL_SIZE, size)),) * count
