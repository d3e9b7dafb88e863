"""Intervals over prompts, Bradley-Terry strengths, and measures of agreement: exact and seeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.95
PRIOR = 0.5


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` prompts or trials, and between what bounds it lies at the stated level."""

    mean: float
    low: float
    high: float
    n: int


def resampled(prompts: int, *, draws: int = DRAWS, seed: int = 0) -> NDArray[np.int64]:
    """``draws`` samples of that many prompts with replacement: indices [draws, prompts]."""
    found: NDArray[np.int64] = np.random.default_rng(seed).integers(0, prompts, (draws, prompts))
    return found


def interval(
    values: Sequence[float], *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> Interval:
    """The mean of one value per prompt, with the bootstrap's percentile interval over prompts.

    Samples of one prompt are no new evidence about other prompts: average them before. Raises
    ValueError for no value.
    """
    if not len(values):
        raise ValueError("no prompt has a value")
    given = np.asarray(values, np.float64)
    means = given[resampled(len(given), draws=draws, seed=seed)].mean(1)
    return Interval(float(given.mean()), *bounds(means, level), len(given))


def bounds(draws: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The middle share ``level`` of a statistic's bootstrap draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def proportion(successes: int, trials: int, *, level: float = LEVEL) -> Interval:
    """A share of successes with Wilson's score interval (1927).

    Unlike a bootstrap's it has a width when all succeed: ten of ten are 0.72 to 1. Raises
    ValueError for no trial.
    """
    if not trials:
        raise ValueError("no trial")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * (share * (1 - share) / trials + z * z / (4 * trials * trials)) ** 0.5
    half /= 1 + z * z / trials
    # Exactly 0 and 1 are reached up to rounding.
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), trials)


def bradley_terry(wins_NN: Floats, *, prior: float = PRIOR) -> Floats:
    """Log strengths [N], mean zero: P(i beats j) = 1 / (1 + exp(s_j - s_i)).

    ``wins_NN[i, j]``: how often i beat j; a tie is half a win each way. Any two that met are given
    ``prior`` wins each way besides, so that one that always wins has a finite strength; 0 gives the
    maximum likelihood (Bradley and Terry 1952; by Newton's method, the likelihood is concave).
    Raises ValueError when the systems do not all hang together by duels, or the maximum likelihood
    is infinite.
    """
    met_NN = (wins_NN + wins_NN.T) > 0
    if not _connected(met_NN):
        raise ValueError("not all systems are connected by duels")
    wins = wins_NN + prior * met_NN
    np.fill_diagonal(wins, 0.0)
    if not _connected(wins > 0):
        raise ValueError("some systems never lost to the others: the likelihood has no maximum")
    count, total_NN = len(wins), wins + wins.T
    strengths: Floats = np.zeros(count)
    for _ in range(200):
        share_NN = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
        slope = wins.sum(1) - (total_NN * share_NN).sum(1)
        weight_NN = total_NN * share_NN * (1 - share_NN)
        # The mean is free: adding 1/N to the singular Laplacian fixes it at zero.
        curve_NN = np.diag(weight_NN.sum(1)) - weight_NN + 1 / count
        step = np.linalg.solve(curve_NN, slope)
        strengths = strengths + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if float(np.abs(step).max()) < 1e-10:
            centred: Floats = strengths - strengths.mean()
            return centred
    raise ValueError("the strengths did not settle")


def _connected(edges_NN: NDArray[np.bool_]) -> bool:
    """Whether every node reaches every other along the edges' direction."""
    count = len(edges_NN)
    reach = edges_NN | np.eye(count, dtype=bool)
    for _ in range(count.bit_length()):
        reach = (reach.astype(np.int64) @ reach.astype(np.int64)) > 0
    return bool(reach.all())


def ranks(values: Sequence[float]) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    given = np.asarray(values, np.float64)
    _, place, counts = np.unique(given, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Floats = (last - (counts - 1) / 2)[place]
    return shared


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation with ties: Pearson's of the ranks. None where one is constant."""
    if len(one) != len(other):
        raise ValueError(f"{len(one)} values beside {len(other)}")
    a, b = (r - r.mean() for r in (ranks(one), ranks(other)))
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else None


def quadratic_kappa(
    one: Sequence[int], other: Sequence[int], lowest: int, highest: int
) -> float | None:
    """Cohen's kappa with quadratic weights over the categories lowest..highest (Cohen 1968).

    None where it is not defined: all ratings of both are one and the same category. Raises
    ValueError for a rating outside of the categories.
    """
    if len(one) != len(other) or not len(one):
        raise ValueError(f"{len(one)} ratings beside {len(other)}")
    a, b = (np.asarray(x, np.int64) for x in (one, other))
    if min(a.min(), b.min()) < lowest or max(a.max(), b.max()) > highest:
        raise ValueError(f"a rating is not within {lowest} to {highest}")
    size = highest - lowest + 1
    seen: Any = np.zeros((size, size))
    np.add.at(seen, (a - lowest, b - lowest), 1.0)
    chance = np.outer(seen.sum(1), seen.sum(0)) / seen.sum()
    steps = np.arange(size)
    weights = (steps[:, None] - steps[None, :]) ** 2
    expected = float((weights * chance).sum())
    return 1.0 - float((weights * seen).sum()) / expected if expected else None
