"""Compare preferences of people and of the judge: agreement beyond chance, and strengths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.human.rater_reliability import preferred_system
from mimix_core.benchmark.judge.judge_results import MeanRatings, complete_comparisons, left_score
from mimix_core.benchmark.judge.rubric import ASPECTS
from mimix_core.benchmark.judge.statistics import (
    ConfidenceInterval,
    Floats,
    kappa_from_counts,
    mean_interval,
    statistic_interval,
)
from mimix_core.benchmark.judge.strengths import BradleyTerryStrength, strengths_from_wins
from mimix_core.project.pair_ratings import PairRating
from mimix_core.tables import PairwiseRow

ALL_ASPECTS = "all aspects"

Question = tuple[str, str, str, str]
"""Prompt id, two systems in the order of their names, aspect."""

Preferences = Mapping[Question, int]
"""1: the first system is better, -1: the second one, 0: a tie."""


@dataclass(frozen=True)
class PreferenceAgreement:
    """How far two sides agree in one aspect beyond chance.

    ``kappa``: Cohen's, with quadratic weights over better, tie, worse; None where it is undefined.
    ``bounds``: 95 % bootstrap interval over prompts, None for fewer than five. ``same``: the share
    of equal answers. ``questions``: pairs of videos that both sides answered.
    """

    aspect: str
    between: str
    kappa: float | None
    bounds: tuple[float, float] | None
    same: float | None
    questions: int
    prompts: int


def human_preferences(ratings: Iterable[PairRating]) -> dict[Question, dict[str, int]]:
    """Return the answers by question and rater."""
    found: dict[Question, dict[str, int]] = {}
    for rating in ratings:
        one, other = sorted((rating.left, rating.right))
        for aspect, answer in rating.answers.items():
            system = preferred_system(rating, answer)
            value = {one: 1, other: -1, "": 0}[system]
            found.setdefault((rating.prompt_id, one, other, aspect), {})[rating.rater] = value
    return found


def judge_comparisons(rows: Sequence[PairwiseRow]) -> dict[Question, int]:
    """Return the judge's preferences from comparisons that it answered in both orders."""
    scores: dict[Question, list[float]] = {}
    for both in complete_comparisons(rows):
        for row in both:
            one, other = sorted((row["left_system"], row["right_system"]))
            score = left_score(row) if one == row["left_system"] else 1 - left_score(row)
            question = (row["prompt_id"], one, other, row["aspect"])
            scores.setdefault(question, []).append(score)
    return {question: _sign(fmean(values) - 0.5) for question, values in scores.items()}


def judge_rating_differences(means: MeanRatings) -> dict[Question, int]:
    """Return the judge's preferences from its ratings of single videos."""
    found: dict[Question, int] = {}
    for one, other in combinations(sorted(means), 2):
        for aspect in ASPECTS:
            values, others = (means[system].get(aspect, {}) for system in (one, other))
            for prompt_id in values.keys() & others.keys():
                difference = values[prompt_id] - others[prompt_id]
                found[prompt_id, one, other, aspect] = _sign(difference)
    return found


def agreement_of_people(answers: Mapping[Question, Mapping[str, int]]) -> list[PreferenceAgreement]:
    """Compute how far any two people agree: the most that a judge can be expected to."""
    return _by_aspect(
        "person and person",
        {
            question: [(a, b) for a, b in permutations(by_rater.values(), 2)]
            for question, by_rater in answers.items()
            if len(by_rater) > 1
        },
    )


def agreement_with_judge(
    answers: Mapping[Question, Mapping[str, int]], judge: Preferences, name: str
) -> list[PreferenceAgreement]:
    """Compute how far the judge agrees with a person; ``name``: how it is called."""
    return _by_aspect(
        f"{name} and person",
        {
            question: [(judge[question], value) for value in by_rater.values()]
            for question, by_rater in answers.items()
            if question in judge
        },
    )


def human_strengths(
    answers: Mapping[Question, Mapping[str, int]],
) -> list[BradleyTerryStrength]:
    """Estimate strengths and ranks in each aspect and over all; every answer is one comparison."""
    found = []
    for aspect in (*ASPECTS, ALL_ASPECTS):
        chosen = {key: value for key, value in answers.items() if aspect in (key[3], ALL_ASPECTS)}
        systems = sorted({system for key in chosen for system in key[1:3]})
        if chosen:
            found += strengths_from_wins(aspect, systems, _count_wins(chosen, systems))
    return found


@dataclass(frozen=True)
class HumanWinRate:
    """How often people prefer one system to another, a tie being half; over prompts."""

    aspect: str
    system: str
    other: str
    rate: ConfidenceInterval
    answers: int


def human_win_rates(answers: Mapping[Question, Mapping[str, int]]) -> list[HumanWinRate]:
    """Compute the win rate of each pair of systems in each aspect, and over all aspects."""
    rates = []
    for aspect in (*ASPECTS, ALL_ASPECTS):
        scores: dict[tuple[str, str], dict[str, list[float]]] = {}
        for (prompt_id, one, other, asked), by_rater in sorted(answers.items()):
            if aspect in (asked, ALL_ASPECTS):
                by_prompt = scores.setdefault((one, other), {}).setdefault(prompt_id, [])
                by_prompt += [(1 + value) / 2 for value in by_rater.values()]
        for (one, other), prompts in sorted(scores.items()):
            found = mean_interval([fmean(values) for values in prompts.values()])
            bounded = ConfidenceInterval(
                found.mean, max(0.0, found.low), min(1.0, found.high), found.n
            )
            count = sum(map(len, prompts.values()))
            rates.append(HumanWinRate(aspect, one, other, bounded, count))
    return rates


def _count_wins(answers: Mapping[Question, Mapping[str, int]], systems: Sequence[str]) -> Floats:
    """Count wins [prompts, N, N] of each system over each other."""
    prompts = {name: index for index, name in enumerate(sorted({key[0] for key in answers}))}
    place = {name: index for index, name in enumerate(systems)}
    wins_PNN = np.zeros((len(prompts), len(systems), len(systems)))
    for (prompt_id, one, other, _), by_rater in answers.items():
        won = sum((1 + value) / 2 for value in by_rater.values())
        wins_PNN[prompts[prompt_id], place[one], place[other]] += won
        wins_PNN[prompts[prompt_id], place[other], place[one]] += len(by_rater) - won
    return wins_PNN


def _by_aspect(
    between: str, pairs: Mapping[Question, Sequence[tuple[int, int]]]
) -> list[PreferenceAgreement]:
    """Compute the agreement of pairs of answers, all questions counting the same."""
    found = []
    for aspect in (*ASPECTS, ALL_ASPECTS):
        chosen = {key: value for key, value in pairs.items() if aspect in (key[3], ALL_ASPECTS)}
        prompts = {name: index for index, name in enumerate(sorted({key[0] for key in chosen}))}
        counts_PCC = np.zeros((len(prompts), 3, 3))
        for question, values in chosen.items():
            for one, other in values:
                counts_PCC[prompts[question[0]], one + 1, other + 1] += 1 / len(values)
        total_CC = counts_PCC.sum(0)

        def kappa(indices: NDArray[np.int64], counts: Floats = counts_PCC) -> float | None:
            return kappa_from_counts(counts[indices].sum(0))

        found.append(
            PreferenceAgreement(
                aspect,
                between,
                kappa_from_counts(total_CC),
                statistic_interval(kappa, len(prompts)),
                float(np.trace(total_CC) / total_CC.sum()) if chosen else None,
                len(chosen),
                len(prompts),
            )
        )
    return [one for one in found if one.questions]


def _sign(value: float) -> int:
    return (value > 1e-9) - (value < -1e-9)
