from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.benchmark.judge.statistics import (
    bradley_terry,
    mean_interval,
    quadratic_kappa,
    spearman,
    statistic_interval,
    wilson_interval,
)

LOGS = st.lists(st.floats(-3, 3), min_size=2, max_size=6)


def expected(strengths: np.ndarray, comparisons: float = 100.0) -> np.ndarray:
    """Expected wins of systems with these strengths in ``comparisons`` of each pair."""
    wins = comparisons / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    np.fill_diagonal(wins, 0)
    return wins


@given(LOGS)
def test_bradley_terry_recovers_the_strengths_behind_the_wins(logs: list[float]) -> None:
    strengths = np.array(logs) - np.mean(logs)
    found = bradley_terry(expected(strengths), prior=0)
    assert np.allclose(found, strengths, atol=1e-6)


@given(LOGS)
def test_bradley_terry_does_not_depend_on_the_order_of_systems(logs: list[float]) -> None:
    wins = np.round(expected(np.array(logs)))
    order = np.random.default_rng(len(logs)).permutation(len(logs))
    assert np.allclose(bradley_terry(wins)[order], bradley_terry(wins[np.ix_(order, order)]))
    # Swapping wins and losses negates all strengths.
    assert np.allclose(bradley_terry(wins.T), -bradley_terry(wins))


def test_an_undefeated_system_has_a_finite_strength() -> None:
    wins = np.array([[0.0, 10.0], [0.0, 0.0]])
    found = bradley_terry(wins)
    # 10.5 wins to 0.5: the odds of the maximum likelihood are 21 to 1.
    assert found[0] - found[1] == pytest.approx(np.log(21))
    with pytest.raises(ValueError, match="no maximum"):
        bradley_terry(wins, prior=0)
    with pytest.raises(ValueError, match="do not connect all systems"):
        bradley_terry(np.zeros((2, 2)))


@pytest.mark.parametrize("prompts", [3, 5, 8, 19, 20, 50])
def test_intervals_cover_the_mean_at_their_confidence_level(prompts: int) -> None:
    random = np.random.default_rng(5)
    # Ratings are skewed and bounded. A percentile bootstrap covers 72 % of them for 3 prompts.
    given = np.clip(random.normal(7.5, 2, (600, prompts)).round(), 1, 10)
    mean = float(np.clip(np.random.default_rng(6).normal(7.5, 2, 10**6).round(), 1, 10).mean())
    covered = 0
    for values in given:
        found = mean_interval(values, draws=500)
        assert found.low <= found.mean <= found.high
        covered += found.low <= mean <= found.high
    # Equal ratings of all three prompts have no width: one in thirty experiments.
    assert (0.9 if prompts == 3 else 0.91) <= covered / len(given) <= 0.99


@given(st.lists(st.floats(1, 10), min_size=2, max_size=30))
@settings(max_examples=30)
def test_intervals_contain_the_mean_and_are_reproducible(values: list[float]) -> None:
    found = mean_interval(values)
    assert found == mean_interval(values)
    assert found.n == len(values)
    assert found.low <= found.mean + 1e-9
    assert found.mean <= found.high + 1e-9


def test_one_prompt_says_nothing_about_others() -> None:
    found = mean_interval([7.0])
    assert (found.mean, found.low, found.high) == (7.0, -np.inf, np.inf)


def test_agreement_has_intervals_that_narrow_with_the_videos() -> None:
    random = np.random.default_rng(3)
    widths = []
    for videos in (8, 200):
        people = random.integers(1, 11, videos).astype(float)
        judge = np.clip(people + random.normal(0, 1, videos), 1, 10)
        bounds = statistic_interval(lambda i, j=judge, p=people: spearman(j[i], p[i]), videos)
        assert bounds is not None
        assert bounds[0] <= (spearman(judge, people) or 0) <= bounds[1]
        widths.append(bounds[1] - bounds[0])
    assert widths[1] < widths[0] / 2
    assert statistic_interval(lambda indices: 1.0, 4) is None


def test_a_share_of_few_trials_is_never_certain() -> None:
    # Of 10 in 10, Wilson: n / (n + z^2).
    for successes, trials, low, high in ((10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775)):
        found = wilson_interval(successes, trials)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(1, 1).low == pytest.approx(1 / (1 + 1.959964**2), abs=1e-6)
    with pytest.raises(ValueError, match="no trials"):
        wilson_interval(0, 0)


def test_spearman_as_published() -> None:
    # The example of Wikipedia's article: IQ and hours of TV, rho = -29/165.
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert spearman(iq, hours) == pytest.approx(-29 / 165)
    # SciPy's example with a tie.
    assert spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826816681233)
    assert spearman([1, 2, 3], [4, 4, 4]) is None
    # Ties share the mean of their ranks: 3.5, 1, 3.5, 2 against 1, 2, 3, 4.
    assert spearman([3, 1, 3, 2], [1, 2, 3, 4]) == pytest.approx(-1 / np.sqrt(4.5 * 5))


@given(st.lists(st.integers(1, 10), min_size=2, max_size=20))
def test_spearman_depends_on_order_only(values: list[int]) -> None:
    found = spearman(values, [np.exp(v) for v in values])
    assert found is None if len(set(values)) == 1 else found == pytest.approx(1)


def test_kappa_as_published() -> None:
    # With two categories, quadratic weights change nothing: Wikipedia's example, kappa 0.4.
    one = [1] * 25 + [2] * 25
    other = [1] * 20 + [2] * 5 + [1] * 10 + [2] * 15
    assert quadratic_kappa(one, other, 1, 2) == pytest.approx(0.4)
    assert quadratic_kappa([1, 2, 3], [3, 2, 1], 1, 3) == pytest.approx(-1)
    assert quadratic_kappa([1, 2, 3], [1, 2, 3], 1, 10) == pytest.approx(1)
    assert quadratic_kappa([4, 4], [4, 4], 1, 10) is None
    with pytest.raises(ValueError, match="not between"):
        quadratic_kappa([0], [1], 1, 10)


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10)), min_size=2, max_size=20))
def test_kappa_is_the_same_both_ways_and_never_above_one(pairs: list[tuple[int, int]]) -> None:
    one, other = ([pair[k] for pair in pairs] for k in (0, 1))
    found = quadratic_kappa(one, other, 1, 10)
    back = quadratic_kappa(other, one, 1, 10)
    assert (found is None) == (back is None)
    if found is not None and back is not None:
        assert found == pytest.approx(back)
        assert found <= 1 + 1e-9
