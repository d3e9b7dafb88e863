"""Rank systems by a metric, and say which of them it does not tell from the best one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mimix_core.benchmark.judge.statistics import (
    CONFIDENCE_LEVEL,
    ConfidenceInterval,
    mean_interval,
)
from mimix_core.benchmark.tables.load_results import BenchmarkResults
from mimix_core.benchmark.tables.metric_columns import PAPER_COLUMN_BY_METRIC, extra_columns


@dataclass(frozen=True)
class RankedSystem:
    """A system's mean of a metric over the prompts of all systems with a value.

    ``difference``: prompt by prompt, the system minus the best one; None for the best one itself.
    Its level is corrected for the number of systems (Bonferroni): the best of many is partly best
    by luck. ``within_noise``: that interval includes zero, or there are fewer than two prompts.
    """

    system: str
    mean: ConfidenceInterval
    difference: ConfidenceInterval | None

    @property
    def within_noise(self) -> bool:
        found = self.difference
        return found is not None and (found.n < 2 or found.low <= 0 <= found.high)


def is_higher_better(metric: str) -> bool:
    """Return whether more of a metric is better."""
    column = PAPER_COLUMN_BY_METRIC.get(metric) or extra_columns([metric])[0]
    return column.higher_is_better


def rank_systems(results: BenchmarkResults, metric: str) -> list[RankedSystem]:
    """Rank the systems that have the metric, the best first; empty if they share no prompt."""
    values = {
        system: found
        for system in results.systems
        if (found := results.values.get((system, metric)))
    }
    common = sorted(set.intersection(*(set(found) for found in values.values()))) if values else []
    if not common:
        return []
    sign = -1 if is_higher_better(metric) else 1
    means = {
        system: mean_interval([found[prompt] for prompt in common])
        for system, found in values.items()
    }
    ordered = sorted(means, key=lambda system: sign * means[system].mean)
    best = ordered[0]
    level = 1 - (1 - CONFIDENCE_LEVEL) / max(1, len(ordered) - 1)
    return [
        RankedSystem(
            system,
            means[system],
            None if system == best else _difference(values[system], values[best], common, level),
        )
        for system in ordered
    ]


def _difference(
    values: Mapping[str, float], best: Mapping[str, float], prompts: list[str], level: float
) -> ConfidenceInterval:
    return mean_interval([values[prompt] - best[prompt] for prompt in prompts], level=level)
