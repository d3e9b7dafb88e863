"""Strengths, ranks and agreement, of simulated raters whose preferences are known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mimix_core.benchmark.human import preferences
from mimix_core.benchmark.human.preferences import (
    ALL_ASPECTS,
    agreement_of_people,
    agreement_with_judge,
    human_preferences,
    human_strengths,
    human_win_rates,
    judge_comparisons,
    judge_rating_differences,
)
from mimix_core.benchmark.judge import strengths as strengths_module
from tests.benchmark.human.simulated_raters import honest, only_pairs, plan_pairs, rate_all
from tests.benchmark.tables import factories

TRUE = {"weak": -0.8, "middle": 0.1, "strong": 0.7}


def test_strengths_and_ranks_are_those_that_the_raters_were_made_with() -> None:
    plan = plan_pairs(80, tuple(TRUE))
    raters = {f"r{number}": honest(TRUE, number, ties=0.0) for number in range(4)}
    found = {
        one.system: one
        for one in human_strengths(human_preferences(only_pairs(rate_all(plan, raters))))
        if one.aspect == ALL_ASPECTS
    }
    for system, expected in TRUE.items():
        one = found[system]
        assert one.strength == pytest.approx(expected, abs=0.15)
    assert [found[name].rank for name in ("strong", "middle", "weak")] == [1, 2, 3]
    assert found["strong"].rank_low == found["strong"].rank_high == 1


def test_equal_systems_have_overlapping_ranks() -> None:
    plan = plan_pairs(30, ("one", "two"))
    ratings = rate_all(plan, {"anna": honest({"one": 0.0, "two": 0.0}, 3)})
    for one in human_strengths(human_preferences(only_pairs(ratings))):
        if one.aspect == ALL_ASPECTS:
            assert (one.rank_low, one.rank_high) == (1, 2)


def test_intervals_cover_the_truth_about_as_often_as_they_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over 40 studies: nominally 95 % of 120 intervals; fewer than 85 % would be a bug."""
    monkeypatch.setattr(strengths_module, "STRENGTH_BOOTSTRAP_DRAWS", 100)
    monkeypatch.setattr(preferences, "ASPECTS", ())
    covered = total = 0
    for study in range(40):
        plan = plan_pairs(40, tuple(TRUE), seed=study)
        raters = {f"r{number}": honest(TRUE, 100 * study + number) for number in range(2)}
        for one in human_strengths(human_preferences(only_pairs(rate_all(plan, raters)))):
            assert one.low is not None
            assert one.high is not None
            covered += one.low <= TRUE[one.system] <= one.high
            total += 1
    assert total == 120
    assert covered / total >= 0.85


def test_people_who_agree_have_kappa_one_and_people_who_guess_none() -> None:
    plan = plan_pairs(60, ("one", "two"))
    sure = {"one": 30.0, "two": -30.0}

    def by_prompt(task: object, _aspect: str) -> str:
        # Both see the same: the one system is better for even prompts, the other for odd ones.
        winner = "one" if int(task.prompt_id[1:]) % 2 else "two"  # type: ignore[attr-defined]
        return "left" if task.left == winner else "right"  # type: ignore[attr-defined]

    answers = human_preferences(only_pairs(rate_all(plan, {"a": by_prompt, "b": by_prompt})))  # type: ignore[dict-item]
    same = {one.aspect: one for one in agreement_of_people(answers)}
    assert same["motion"].kappa == pytest.approx(1.0)
    assert same["motion"].questions == 60
    assert same["motion"].same == 1.0
    equal = {"one": 0.0, "two": 0.0}
    guesses = {"a": honest(equal, 1, ties=0.3), "b": honest(equal, 2, ties=0.3)}
    chance = {
        one.aspect: one
        for one in agreement_of_people(human_preferences(only_pairs(rate_all(plan, guesses))))
    }
    bounds = chance[ALL_ASPECTS].bounds
    assert bounds is not None
    assert bounds[0] < 0 < bounds[1]
    # All answers the same: there is nothing to agree about beyond chance.
    certain = {"a": honest(sure, 1), "b": honest(sure, 2)}
    [one, *_] = agreement_of_people(human_preferences(only_pairs(rate_all(plan, certain))))
    assert one.kappa is None


def test_kappa_by_hand() -> None:
    # Two raters, four pairs: (better, better), (better, worse), (tie, better), (worse, worse).
    values = [(1, 1), (1, -1), (0, 1), (-1, -1)]
    answers = {
        (f"p{number}", "one", "two", "motion"): {"a": a, "b": b}
        for number, (a, b) in enumerate(values)
    }
    found = next(one for one in agreement_of_people(answers) if one.aspect == "motion")
    pairs = [pair for a, b in values for pair in ((a, b), (b, a))]
    observed = np.mean([(a - b) ** 2 for a, b in pairs])
    expected = np.mean([(a - b) ** 2 for a, _ in pairs for _, b in pairs])
    assert found.kappa == pytest.approx(1 - observed / expected)
    assert found.same == pytest.approx(0.5)
    assert found.bounds is None, "fewer than five prompts"


def test_the_judge_is_compared_with_each_person(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from mimix_core import tables
    from mimix_core.tables.judge_tables import DUELS

    path = factories.duels(
        tmp_path / "duels.parquet",
        {
            "p1": ("left", "left"),
            "p2": ("left", "right"),
            "p3": ("right", "right"),
            "p4": ("left", None),
        },
    )
    judge = judge_comparisons(tables.read(path, DUELS))
    assert judge == {
        ("p1", "a", "b", "motion"): 1,
        ("p2", "a", "b", "motion"): 0,
        ("p3", "a", "b", "motion"): -1,
    }
    answers = {
        ("p1", "a", "b", "motion"): {"anna": 1, "ben": 1},
        ("p3", "a", "b", "motion"): {"anna": -1, "ben": 1},
        ("p4", "a", "b", "motion"): {"anna": -1},
    }
    found = agreement_with_judge(answers, judge, "judge")
    motion = next(one for one in found if one.aspect == "motion")
    assert motion.questions == 2
    assert motion.same == pytest.approx(0.75), "each pair counts once, whoever rated it"
    assert motion.between == "judge and person"


def test_ratings_of_single_videos_are_preferences_too() -> None:
    means = {
        "b": {"motion": {"p1": 4.0, "p2": 5.0}},
        "a": {"motion": {"p1": 6.0, "p2": 5.0, "p3": 1.0}},
    }
    assert judge_rating_differences(means) == {
        ("p1", "a", "b", "motion"): 1,
        ("p2", "a", "b", "motion"): 0,
    }


def test_win_rates_average_over_prompts() -> None:
    answers = {
        ("p1", "a", "b", "motion"): {"anna": 1, "ben": 1, "cleo": 1},
        ("p2", "a", "b", "motion"): {"anna": -1},
    }
    motion = next(one for one in human_win_rates(answers) if one.aspect == "motion")
    assert motion.rate.mean == pytest.approx(0.5)
    assert (motion.rate.n, motion.answers) == (2, 4)


def test_every_pair_of_systems_is_there() -> None:
    plan = plan_pairs(6, ("a", "b", "c"))
    answers = human_preferences(
        only_pairs(rate_all(plan, {"anna": honest(dict.fromkeys("abc", 0.0), 0)}))
    )
    assert {key[1:3] for key in answers} == set(combinations("abc", 2))
