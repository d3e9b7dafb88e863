"""Raters who do not look are named; those who do are not."""

from __future__ import annotations

import numpy as np
import pytest

from mimix_core.benchmark.human.rater_reliability import assess_raters, usable_ratings
from mimix_core.project.pair_ratings import Answer
from mimix_core.project.rating_plan import RatingTask
from tests.benchmark.human.simulated_raters import honest, plan_pairs, rate_all

SYSTEMS = {"one": 0.4, "two": -0.4}


def always_left(_task: RatingTask, _aspect: str) -> Answer:
    return "left"


def always_tie(_task: RatingTask, _aspect: str) -> Answer:
    return "tie"


def test_a_rater_who_always_says_left_is_named_and_does_not_count() -> None:
    plan = plan_pairs(24, tuple(SYSTEMS))
    ratings = rate_all(plan, {"anna": honest(SYSTEMS, 1), "lefty": always_left})
    anna, lefty = assess_raters(ratings)
    assert anna.is_usable
    assert not lefty.is_usable
    assert lefty.problems[0] == f"chose the left side in 100% of {lefty.left.n} pairs"  # type: ignore[union-attr]
    assert {one.rater for one in usable_ratings(ratings)} == {"anna"}
    assert len(usable_ratings(ratings)) == 24


def test_a_rater_who_sees_no_difference_to_noise_is_named() -> None:
    plan = plan_pairs(24, tuple(SYSTEMS))
    [found] = assess_raters(rate_all(plan, {"tim": always_tie}))
    assert found.left is None
    assert found.problems == ("preferred the video to noise in only 0% of 3 controls",)


def test_one_slip_makes_nobody_unusable() -> None:
    plan = plan_pairs(24, tuple(SYSTEMS))
    rater = honest(SYSTEMS, 5)
    slips = iter([True])

    def slip(task: RatingTask, aspect: str) -> Answer:
        if task.noise is not None and aspect == "identity" and next(slips, False):
            return task.noise
        return rater(task, aspect)

    [found] = assess_raters(rate_all(plan, {"anna": slip}))
    assert found.controls is not None
    assert found.controls.mean == pytest.approx(2 / 3)
    assert found.is_usable


def test_honest_raters_are_hardly_ever_named() -> None:
    """One system much better than the other, as often on either side: no false alarm."""
    named = 0
    for seed in range(100):
        plan = plan_pairs(30, tuple(SYSTEMS), seed=seed)
        [found] = assess_raters(rate_all(plan, {"anna": honest({"one": 2.0, "two": -2.0}, seed)}))
        named += not found.is_usable
    assert named == 0


def test_a_rater_who_flips_coins_contradicts_itself() -> None:
    plan = plan_pairs(200, tuple(SYSTEMS))
    chance = np.random.default_rng(0)

    def coin(task: RatingTask, aspect: str) -> Answer:
        return "left" if chance.random() < 0.5 else "right"

    [found] = assess_raters(rate_all(plan, {"coin": coin}))
    assert not found.is_usable
    assert "controls" in found.problems[0]
    assert found.repeats is not None
    [good] = assess_raters(rate_all(plan, {"anna": honest({"one": 3.0, "two": -3.0}, 0)}))
    assert good.repeats is not None
    assert good.repeats.mean > found.repeats.mean
