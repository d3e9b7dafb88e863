from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.benchmark.judge.judge_results import (
    OVERALL,
    PAPER_WEIGHTS,
    lines,
    pair_lines,
    ratings,
    score_card,
    strengths,
)
from mimix_core.benchmark.judge.rubric import ASPECTS

Rows = list[dict[str, Any]]


def rated(value: float | None, **values: Any) -> dict[str, Any]:
    row = {"system": "a", "prompt_id": "p", "aspect": "identity", "control": "", "mode": "paper"}
    return {**row, "sample": 0, "value": value, **values}


def duelled(
    winner: Callable[[str, int, str], str | None], prompts: int = 8, samples: int = 4
) -> Rows:
    """Duels of three systems; ``winner(first, prompt, right_system)`` gives left, right or tie."""
    return [
        {
            "prompt_id": f"p{prompt}",
            "aspect": aspect,
            "left_system": left,
            "right_system": right,
            "first": first,
            "sample": sample,
            "winner": winner(first, prompt, right),
        }
        for prompt in range(prompts)
        for left, right in (("a", "b"), ("a", "c"), ("b", "c"))
        for aspect in ASPECTS
        for sample in range(samples)
        for first in ["right" if sample % 2 else "left"]
    ]


def test_a_missing_answer_is_counted_and_stands_for_nothing() -> None:
    rows = [
        rated(9, prompt_id="p"),
        rated(None, prompt_id="q"),
        rated(5, prompt_id="r"),
        rated(1, prompt_id="p", control="frozen-frame"),
    ]
    line = lines(rows, "paper")[0]
    assert line.interval is not None
    assert (line.interval.mean, line.interval.n, line.asked, line.missing) == (7, 2, 3, 1)
    assert lines(rows, "strict") == []


def test_samples_of_a_prompt_are_averaged_before_prompts_are() -> None:
    rows = [rated(2, prompt_id="p"), rated(4, prompt_id="p"), rated(9, prompt_id="q")]
    assert ratings(rows, "paper")["a"]["identity"] == {"p": 3, "q": 9}


def test_the_overall_score_has_the_authors_weights_and_wants_all_four() -> None:
    assert sum(PAPER_WEIGHTS.values()) == pytest.approx(1)
    values = {"identity": 10, "motion": 6, "style": 8, "interaction": 4}
    rows = [rated(value, aspect=aspect) for aspect, value in values.items()]
    rows += [
        rated(9, aspect="identity", prompt_id="q"),
        rated(None, aspect="motion", prompt_id="q"),
    ]
    found = ratings(rows, "paper")["a"][OVERALL]
    assert found == {"p": pytest.approx(0.3 * 10 + 0.3 * 6 + 0.25 * 8 + 0.15 * 4)}
    overall = lines(rows, "paper")[-1]
    assert (overall.aspect, overall.asked, overall.missing) == (OVERALL, 2, 1)


@pytest.mark.parametrize("place", ["left", "right"])
@pytest.mark.parametrize("samples", [2, 4])
def test_a_preference_for_a_place_cancels_out(place: str, samples: int) -> None:
    def winner(first: str, _prompt: int, _right: str) -> str:
        shown_second = "left" if first == "right" else "right"
        return first if place == "left" else shown_second

    rows = duelled(winner, samples=samples)
    for line in pair_lines(rows):
        assert line.rate is not None
        assert (line.rate.mean, line.rate.low, line.rate.high) == (0.5, 0.5, 0.5)
        assert line.consistent == 0
        assert line.first_share == (1.0 if place == "left" else 0.0)
    assert all(one.strength == pytest.approx(0, abs=1e-9) for one in strengths(rows))


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_answers_lost_in_one_order_leave_the_cancelling_whole(data: st.DataObject) -> None:
    lost = iter(data.draw(st.lists(st.booleans(), min_size=384, max_size=384)))
    rows = duelled(lambda first, _prompt, _right: None if next(lost) else first)
    for line in pair_lines(rows):
        assert line.compared + line.missing == 16
        assert line.rate is None if not line.compared else line.rate.mean == 0.5


def test_a_better_system_wins_and_the_third_place_is_far() -> None:
    # a beats b in three of four prompts, and all beat c; one answer is missing, one a tie.
    def winner(first: str, prompt: int, right: str) -> str | None:
        return "left" if right == "c" or prompt % 4 else "right"

    rows = duelled(winner)
    rows[0]["winner"] = None
    rows[5]["winner"] = "tie"
    found = {(line.aspect, line.left, line.right): line for line in pair_lines(rows)}
    identity = found[("identity", "a", "b")]
    assert identity.rate is not None
    assert identity.rate.mean == pytest.approx(0.75)
    assert (identity.compared, identity.missing) == (15, 1)
    motion = found[("motion", "a", "b")]
    assert motion.rate is not None
    # Prompt 0: right, tie, right, right: an eighth of a win for the left.
    assert motion.rate.mean == pytest.approx((6 + 0.125) / 8)
    order = [one for one in strengths(rows) if one.aspect == "style"]
    assert [one.system for one in order] == ["a", "b", "c"]
    assert order[0].strength > order[1].strength > order[2].strength
    assert all(one.low <= one.strength <= one.high for one in order)
    assert strengths([]) == pair_lines([]) == []


def test_systems_that_no_duel_connects_are_named_without_a_strength() -> None:
    rows = duelled(lambda first, _prompt, _right: first)
    for row in rows:
        if "c" in (row["left_system"], row["right_system"]) and row["aspect"] == "motion":
            row["winner"] = None
    found = {(one.aspect, one.system): one.strength for one in strengths(rows)}
    assert len(found) == 4 * 3
    assert {key for key, value in found.items() if value is None} == {
        ("motion", system) for system in "abc"
    }


def test_systems_that_a_prompt_each_connects_have_strengths_and_no_bounds() -> None:
    # Each pair meets in a prompt of its own: 500 resamplings of 19 prompts never have all 19.
    names = [f"s{number:02}" for number in range(20)]
    row = {"aspect": "style", "winner": "tie"}
    rows = [
        {**row, "prompt_id": left, "left_system": left, "right_system": right, "sample": sample}
        for left, right in itertools.pairwise(names)
        for sample in (0, 1)
    ]
    found = strengths(rows)
    assert [one.system for one in found] == names
    assert all(one.strength == pytest.approx(0, abs=1e-9) and one.low is None for one in found)


def test_the_score_card_takes_a_tie_for_no_success() -> None:
    def pair(prompt: str, original: float | None, spoilt: float | None) -> Rows:
        same = {"aspect": "motion", "mode": "strict", "prompt_id": prompt}
        return [rated(original, **same), rated(spoilt, control="frozen-frame", **same)]

    rows = [
        *pair("p", 8, 2),
        *pair("q", 5, 5),
        *pair("r", 4, 6),
        *pair("s", 9, None),
        *pair("t", 1, 1),
    ]
    [line] = score_card(rows)
    assert (line.below, line.tied, line.above, line.missing) == (1, 1, 1, 1)
    assert line.no_room == 1
    assert line.share is not None
    assert line.share.mean == pytest.approx(1 / 3)
    assert score_card([rated(8, mode="strict")]) == []
