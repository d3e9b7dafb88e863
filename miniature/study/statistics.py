"""Shares of videos with 95 % intervals, by a bootstrap over prompts and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miniature.study.scoring import VideoRow

RESAMPLES = 4000

Floats = NDArray[np.float64]
Value = Callable[[VideoRow], float]


@dataclass(frozen=True)
class Estimate:
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def grid(rows: Sequence[VideoRow], value: Value) -> Floats:
    """Arrange a value of each video as [prompts, seeds]. Raises ValueError if one is missing."""
    prompts = sorted({row["prompt_id"] for row in rows})
    seeds = sorted({row["seed"] for row in rows})
    values = {(row["prompt_id"], row["seed"]): float(value(row)) for row in rows}
    if len(values) != len(rows) or len(rows) != len(prompts) * len(seeds):
        raise ValueError(f"{len(rows)} videos of {len(prompts)} prompts and {len(seeds)} seeds")
    return np.array([[values[prompt, seed] for seed in seeds] for prompt in prompts])


def estimate(values_PS: Floats, seed: int = 0) -> Estimate:
    """Estimate the mean over prompts and seeds; both are drawn again with replacement.

    For a difference of two arms, pass the difference of their grids: prompts and noise are the
    same in both.
    """
    rng = np.random.default_rng(seed)
    prompts, seeds = values_PS.shape
    # How often each prompt and each seed is drawn. Whole numbers until the one division: sums of
    # the values of videos (0, 1/2 or 1) are then exact, and no processor's order of additions
    # decides how an end of an interval that lies halfway between two decimals is rounded.
    draws_of_prompt_RP = rng.multinomial(prompts, [1 / prompts] * prompts, RESAMPLES)
    draws_of_seed_RS = rng.multinomial(seeds, [1 / seeds] * seeds, RESAMPLES)
    sums_R = ((draws_of_prompt_RP @ values_PS) * draws_of_seed_RS).sum(1)
    means = sums_R / (prompts * seeds)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(values_PS.mean()), float(low), float(high))


def share(rows: Sequence[VideoRow], value: Value) -> Estimate | None:
    """Estimate the share of videos of one arm for which ``value`` holds; None without videos."""
    return estimate(grid(rows, value)) if rows else None


def shared_videos(
    one: Sequence[VideoRow], two: Sequence[VideoRow]
) -> tuple[list[VideoRow], list[VideoRow]]:
    """Return of two arms the videos of the prompts and seeds that both have."""
    sides = []
    keys = [{(row["prompt_id"], row["seed"]) for row in rows} for rows in (one, two)]
    both = keys[0] & keys[1]
    for rows in (one, two):
        sides.append([row for row in rows if (row["prompt_id"], row["seed"]) in both])
    return sides[0], sides[1]


def gain(after: Sequence[VideoRow], before: Sequence[VideoRow], value: Value) -> Estimate:
    """Estimate the difference of two arms on the same prompts and seeds."""
    return estimate(grid(after, value) - grid(before, value))


def product_of_parts(rows: Sequence[VideoRow]) -> float:
    """Return what ``all_kept`` would be if its parts were independent of each other."""
    parts: list[Value] = [
        lambda row: row["style_kept"][0],
        lambda row: row["style_kept"][-1],
        lambda row: row["background_style_right"],
    ]
    return float(np.prod([grid(rows, part).mean() for part in parts]))
