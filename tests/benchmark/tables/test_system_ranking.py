"""Which system is best by a metric, and which ones the metric does not tell from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mimix_core.benchmark.tables.load_results import BenchmarkResults, load_results
from mimix_core.benchmark.tables.system_ranking import rank_systems
from tests.benchmark.tables import factories
from tests.benchmark.tables.factories import PROMPTS, QUALITY

BRISQUE = "imaging_quality/brisque"


@pytest.fixture
def results(tmp_path: Path) -> BenchmarkResults:
    return load_results(
        PROMPTS, [factories.system(tmp_path, name) for name in "abc"], {}, [], [], None
    )


def with_values(
    results: BenchmarkResults, metric: str, values: dict[str, dict[str, float]]
) -> BenchmarkResults:
    return replace(results, values={(system, metric): found for system, found in values.items()})


def test_a_small_but_steady_difference_is_none_of_the_noise(results: BenchmarkResults) -> None:
    prompts = [f"p{number}" for number in range(40)]
    chance = np.random.default_rng(0)
    hard = chance.normal(0, 10, 40)
    values = {
        "a": {p: 50 + hard[n] for n, p in enumerate(prompts)},
        "b": {p: 51 + hard[n] + chance.normal(0, 0.3) for n, p in enumerate(prompts)},
        "c": {p: 51 + hard[n] + chance.normal(0, 5) for n, p in enumerate(prompts)},
    }
    ranked = rank_systems(with_values(results, QUALITY, values), QUALITY)
    by_name = {one.system: one for one in ranked}
    best = ranked[0].system
    assert best in ("b", "c")
    assert not by_name["a"].within_noise or best == "c"
    other = by_name["c" if best == "b" else "b"]
    assert other.within_noise
    # The intervals of the means overlap by far: only the pairing tells a from b.
    assert by_name["a"].mean.high > by_name["b"].mean.low


def test_less_is_better_where_the_metric_says_so(results: BenchmarkResults) -> None:
    values = {"a": {"p1": 10.0, "p2": 11.0}, "b": {"p1": 20.0, "p2": 21.5}}
    assert [one.system for one in rank_systems(with_values(results, BRISQUE, values), BRISQUE)] == [
        "a",
        "b",
    ]
    assert [one.system for one in rank_systems(with_values(results, QUALITY, values), QUALITY)] == [
        "b",
        "a",
    ]


def test_only_common_prompts_count_and_one_is_noise(results: BenchmarkResults) -> None:
    values = {"a": {"p1": 10.0, "p2": 99.0}, "b": {"p1": 20.0}}
    ranked = rank_systems(with_values(results, QUALITY, values), QUALITY)
    assert [(one.system, one.mean.n, one.within_noise) for one in ranked] == [
        ("b", 1, False),
        ("a", 1, True),
    ]
    apart = {"a": {"p1": 1.0}, "b": {"p2": 1.0}}
    assert rank_systems(with_values(results, QUALITY, apart), QUALITY) == []


def test_the_best_of_many_equal_systems_is_within_noise_of_the_others(
    results: BenchmarkResults,
) -> None:
    """Eight equal systems, 60 studies: some other is told from the best in few of them."""
    names = tuple("abcdefgh")
    alarms = 0
    for study in range(60):
        chance = np.random.default_rng(study)
        values = {
            name: {f"p{n}": float(value) for n, value in enumerate(chance.normal(0, 1, 15))}
            for name in names
        }
        many = replace(with_values(results, QUALITY, values), systems=names)
        # The second to the best: the luckiest of the others is never far away.
        alarms += not rank_systems(many, QUALITY)[1].within_noise
    assert alarms <= 3
