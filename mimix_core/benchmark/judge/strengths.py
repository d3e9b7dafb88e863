"""Estimate Bradley-Terry strengths and ranks from comparisons, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mimix_core.benchmark.judge import statistics
from mimix_core.benchmark.judge.judge_results import complete_comparisons, left_score, pair_key
from mimix_core.benchmark.judge.rubric import ASPECTS
from mimix_core.benchmark.judge.statistics import Floats
from mimix_core.tables import PairwiseRow

STRENGTH_BOOTSTRAP_DRAWS = 500


@dataclass(frozen=True)
class BradleyTerryStrength:
    """A system's Bradley-Terry strength (log, mean zero over the systems) in one aspect.

    ``rank``: 1 for the strongest. All values are None when the complete comparisons do not connect
    all systems, because the strengths of separate groups are not comparable. The bounds (95 %, over
    prompts) are None when no bootstrap sample connects them.
    """

    aspect: str
    system: str
    strength: float | None
    low: float | None
    high: float | None
    rank: int | None = None
    rank_low: int | None = None
    rank_high: int | None = None


def estimate_strengths(comparisons: Sequence[PairwiseRow]) -> list[BradleyTerryStrength]:
    """Estimate the judge's strengths in each aspect, with bootstrap bounds over prompts.

    Aspects without any comparison are omitted.
    """
    strengths = []
    for aspect in ASPECTS:
        rows = sorted((row for row in comparisons if row["aspect"] == aspect), key=pair_key)
        systems = sorted(
            {name for row in rows for name in (row["left_system"], row["right_system"])}
        )
        if rows:
            strengths += strengths_from_wins(aspect, systems, _count_wins(rows, systems))
    return strengths


def strengths_from_wins(
    aspect: str, systems: Sequence[str], wins_PNN: Floats
) -> list[BradleyTerryStrength]:
    """Estimate strengths from the wins [prompts, N, N] of each system over each other.

    A tie is half a win each way.
    """
    try:
        point = statistics.bradley_terry(wins_PNN.sum(0))
    except ValueError:
        return [BradleyTerryStrength(aspect, system, None, None, None) for system in systems]
    draws_DN = _bootstrap_strengths(wins_PNN)
    ranks = _ranks(point[None, :])[0]
    ranks_DN = _ranks(draws_DN)
    strengths = []
    for number, system in enumerate(systems):
        low = high = rank_low = rank_high = None
        if len(draws_DN):
            low, high = statistics.percentile_bounds(draws_DN[:, number])
            first, last = statistics.percentile_bounds(ranks_DN[:, number])
            rank_low, rank_high = int(np.floor(first)), int(np.ceil(last))
        strengths.append(
            BradleyTerryStrength(
                aspect,
                system,
                float(point[number]),
                low,
                high,
                int(ranks[number]),
                rank_low,
                rank_high,
            )
        )
    return strengths


def _ranks(strengths_DN: Floats) -> Floats:
    """Rank the systems of each draw, 1 for the strongest; equal ones share the better rank."""
    rounded_DN = strengths_DN.round(9)
    ranks_DN: Floats = 1.0 + (rounded_DN[:, None, :] > rounded_DN[:, :, None]).sum(2)
    return ranks_DN


def _bootstrap_strengths(wins_PNN: Floats) -> Floats:
    """Compute strengths [draws, N] of resampled prompts; skips draws with unconnected systems."""
    draws = []
    for indices in statistics.bootstrap_indices(len(wins_PNN), draws=STRENGTH_BOOTSTRAP_DRAWS):
        try:
            draws.append(statistics.bradley_terry(wins_PNN[indices].sum(0)))
        except ValueError:
            continue
    return np.reshape(draws, (-1, wins_PNN.shape[1]))


def _count_wins(rows: Sequence[PairwiseRow], systems: Sequence[str]) -> Floats:
    """Count wins [prompts, N, N] of each system over each other in complete comparisons."""
    prompts = sorted({row["prompt_id"] for row in rows})
    wins_PNN = np.zeros((len(prompts), len(systems), len(systems)))
    for pair in complete_comparisons(rows):
        for row in pair:
            prompt = prompts.index(row["prompt_id"])
            left, right = systems.index(row["left_system"]), systems.index(row["right_system"])
            wins_PNN[prompt, left, right] += left_score(row)
            wins_PNN[prompt, right, left] += 1 - left_score(row)
    return wins_PNN
