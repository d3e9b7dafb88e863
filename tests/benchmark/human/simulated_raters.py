"""Raters with known preferences, who rate what a plan shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mimix_core.project.pair_ratings import Answer, PairKind, PairRating
from mimix_core.project.rating_plan import (
    AspectQuestion,
    NoiseControl,
    RatedPrompt,
    RatingPlan,
    RatingTask,
)

ASPECTS = ("identity", "motion", "style", "interaction")

Rater = Callable[[RatingTask, str], Answer]
"""Answers about a pair in an aspect."""


def plan_pairs(prompts: int, systems: Sequence[str], seed: int = 0) -> RatingPlan:
    rated = tuple(
        RatedPrompt(
            id=f"p{number}",
            text="",
            characters=1,
            videos={name: Path(f"{name}/p{number}.mp4") for name in systems},
        )
        for number in range(prompts)
    )
    return RatingPlan(
        seed=seed,
        aspects=tuple(
            AspectQuestion(name=name, title=name, question="?", single_question="?")
            for name in ASPECTS
        ),
        prompts=rated,
        controls=tuple(
            NoiseControl(prompt_id=one.id, system=systems[0], noise=Path("noise.mp4"))
            for one in rated[:20]
        ),
    )


def honest(strengths: Mapping[str, float], seed: int, *, ties: float = 0.0) -> Rater:
    """A rater who prefers by Bradley-Terry strengths, and sees that noise is noise."""
    chance = np.random.default_rng(seed)

    def answer(task: RatingTask, _aspect: str) -> Answer:
        if task.noise is not None:
            return "right" if task.noise == "left" else "left"
        if chance.random() < ties:
            return "tie"
        margin = strengths[task.left] - strengths[task.right]
        return "left" if chance.random() < 1 / (1 + np.exp(-margin)) else "right"

    return answer


def rate_all(plan: RatingPlan, raters: Mapping[str, Rater]) -> list[PairRating]:
    return [
        PairRating(
            record="rating",
            rater=name,
            kind=task.kind,
            prompt_id=task.prompt_id,
            left=task.left,
            right=task.right,
            noise=task.noise or "",
            answers={aspect: rater(task, aspect) for aspect in ASPECTS},
            seconds=4.0,
        )
        for number, (name, rater) in enumerate(raters.items())
        for task in plan.tasks(number)
    ]


def only_pairs(ratings: Sequence[PairRating]) -> list[PairRating]:
    return [one for one in ratings if one.kind is PairKind.PAIR]
