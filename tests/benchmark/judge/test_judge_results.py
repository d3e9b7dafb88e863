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
    mean_ratings,
    summarize_controls,
    summarize_differences,
    summarize_pairs,
    summarize_ratings,
)
from mimix_core.benchmark.judge.rubric import ASPECTS
from mimix_core.benchmark.judge.statistics import mean_interval
from mimix_core.benchmark.judge.strengths import estimate_strengths
from mimix_core.benchmark.tables.pairwise_tables import judge_bias_notes, position_bias_notes

Rows = list[dict[str, Any]]


def rated(value: float | None, **values: Any) -> dict[str, Any]:
    row = {"system": "a", "prompt_id": "p", "aspect": "identity", "control": "", "mode": "paper"}
    return {**row, "sample": 0, "value": value, **values}


def compare_systems(
    winner: Callable[[str, int, str], str | None], prompts: int = 8, samples: int = 4
) -> Rows:
    """Comparison rows of three systems; ``winner(first, prompt, right_system)`` decides each."""
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


def test_a_missing_answer_is_counted_and_has_no_value() -> None:
    rows = [
        rated(9, prompt_id="p"),
        rated(None, prompt_id="q"),
        rated(5, prompt_id="r"),
        rated(1, prompt_id="p", control="frozen-frame"),
    ]
    line = summarize_ratings(rows, "paper")[0]
    assert line.interval is not None
    assert (line.interval.mean, line.interval.n, line.requested, line.missing) == (7, 2, 3, 1)
    assert summarize_ratings(rows, "strict") == []


def test_samples_of_a_prompt_are_averaged_before_prompts_are() -> None:
    rows = [rated(2, prompt_id="p"), rated(4, prompt_id="p"), rated(9, prompt_id="q")]
    assert mean_ratings(rows, "paper")["a"]["identity"] == {"p": 3, "q": 9}


def test_the_overall_score_uses_the_authors_weights_and_needs_all_four_aspects() -> None:
    assert sum(PAPER_WEIGHTS.values()) == pytest.approx(1)
    values = {"identity": 10, "motion": 6, "style": 8, "interaction": 4}
    rows = [rated(value, aspect=aspect) for aspect, value in values.items()]
    rows += [
        rated(9, aspect="identity", prompt_id="q"),
        rated(None, aspect="motion", prompt_id="q"),
    ]
    found = mean_ratings(rows, "paper")["a"][OVERALL]
    assert found == {"p": pytest.approx(0.3 * 10 + 0.3 * 6 + 0.25 * 8 + 0.15 * 4)}
    overall = summarize_ratings(rows, "paper")[-1]
    assert (overall.aspect, overall.requested, overall.missing) == (OVERALL, 2, 1)


def test_all_systems_are_averaged_over_the_same_prompts() -> None:
    # b rates the easy prompts alone: by its own prompts it would look better than a.
    scores = {"a": {"p": 3, "q": 5, "r": 8, "s": 9}, "b": {"r": 7, "s": 9}, "c": {}}
    rows = [
        rated(scores[system].get(prompt), system=system, prompt_id=prompt)
        for system in scores
        for prompt in "pqrs"
    ]
    lines = summarize_ratings(rows, "paper")
    found = {one.system: one for one in lines if one.aspect == "identity"}
    means = {name: one.interval.mean for name, one in found.items() if one.interval}
    assert means == {"a": 8.5, "b": 8}
    assert {name: one.missing for name, one in found.items()} == {"a": 0, "b": 2, "c": 4}


def test_differences_are_paired_and_have_intervals() -> None:
    hard = {f"p{number}": number for number in range(1, 9)}
    better = {"p1": 1, "p2": 0, "p3": 2, "p4": 1, "p5": 0, "p6": 1, "p7": 2}
    rows = [rated(value, prompt_id=name) for name, value in hard.items()]
    rows += [rated(hard[name] + more, system="b", prompt_id=name) for name, more in better.items()]
    rows += [rated(None, system="b", prompt_id="p8"), rated(9, system="c", prompt_id="p9")]
    identity = {
        (one.system, one.other): one.interval
        for one in summarize_differences(rows, "paper", "a")
        if one.aspect == "identity"
    }
    assert identity == {("b", "a"): mean_interval(list(better.values())), ("c", "a"): None}
    paired = identity["b", "a"]
    assert paired is not None
    assert (paired.mean, paired.n) == (1, 7)
    assert 0 < paired.low < 1 < paired.high < 2  # the means' own intervals overlap widely


@pytest.mark.parametrize("side", ["first", "second"])
def test_a_judge_that_goes_by_the_order_is_called_unusable_by_all_its_answers(side: str) -> None:
    # Two prompts: too few answers of each pair in each aspect to say so.
    def winner(first: str, _prompt: int, _right: str) -> str:
        return first if side == "first" else "left" if first == "right" else "right"

    rows = compare_systems(winner, prompts=2, samples=2)
    assert position_bias_notes(summarize_pairs(rows)) == []
    [note] = judge_bias_notes(rows)
    assert "Unusable" in note
    assert f"{'100' if side == 'first' else '0'}% of 48 answers" in note
    fair = compare_systems(lambda _first, _prompt, _right: "left", prompts=2, samples=2)
    assert judge_bias_notes(fair) == judge_bias_notes([]) == []


@pytest.mark.parametrize("place", ["left", "right"])
@pytest.mark.parametrize("samples", [2, 4])
def test_a_preference_for_a_place_cancels_out(place: str, samples: int) -> None:
    def winner(first: str, _prompt: int, _right: str) -> str:
        shown_second = "left" if first == "right" else "right"
        return first if place == "left" else shown_second

    rows = compare_systems(winner, samples=samples)
    for line in summarize_pairs(rows):
        assert line.win_rate is not None
        assert (line.win_rate.mean, line.win_rate.low, line.win_rate.high) == (0.5, 0.5, 0.5)
        assert line.consistent == 0
        assert line.first_position_share == (1.0 if place == "left" else 0.0)
        assert line.position_biased
        [note] = position_bias_notes([line])
        assert "Unusable" in note
    assert all(one.strength == pytest.approx(0, abs=1e-9) for one in estimate_strengths(rows))


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_position_bias_cancels_out_when_answers_are_missing(data: st.DataObject) -> None:
    lost = iter(data.draw(st.lists(st.booleans(), min_size=384, max_size=384)))
    rows = compare_systems(lambda first, _prompt, _right: None if next(lost) else first)
    for line in summarize_pairs(rows):
        assert line.compared + line.missing == 16
        assert line.win_rate is None if not line.compared else line.win_rate.mean == 0.5


def test_a_better_system_wins_and_the_third_place_is_far() -> None:
    # a beats b in three of four prompts, and all beat c; one answer is missing, one a tie.
    def winner(first: str, prompt: int, right: str) -> str | None:
        return "left" if right == "c" or prompt % 4 else "right"

    rows = compare_systems(winner)
    rows[0]["winner"] = None
    rows[5]["winner"] = "tie"
    found = {(line.aspect, line.left, line.right): line for line in summarize_pairs(rows)}
    identity = found[("identity", "a", "b")]
    assert identity.win_rate is not None
    assert identity.win_rate.mean == pytest.approx(0.75)
    assert (identity.compared, identity.missing) == (15, 1)
    motion = found[("motion", "a", "b")]
    assert motion.win_rate is not None
    # Prompt 0: right, tie, right, right: an eighth of a win for the left.
    assert motion.win_rate.mean == pytest.approx((6 + 0.125) / 8)
    order = [one for one in estimate_strengths(rows) if one.aspect == "style"]
    assert [one.system for one in order] == ["a", "b", "c"]
    assert order[0].strength > order[1].strength > order[2].strength
    assert all(one.low <= one.strength <= one.high for one in order)
    assert estimate_strengths([]) == summarize_pairs([]) == []


def test_unconnected_systems_have_no_strength() -> None:
    rows = compare_systems(lambda first, _prompt, _right: first)
    for row in rows:
        if "c" in (row["left_system"], row["right_system"]) and row["aspect"] == "motion":
            row["winner"] = None
    found = {(one.aspect, one.system): one.strength for one in estimate_strengths(rows)}
    assert len(found) == 4 * 3
    assert {key for key, value in found.items() if value is None} == {
        ("motion", system) for system in "abc"
    }


def test_systems_connected_by_single_prompts_have_strengths_without_bounds() -> None:
    # One prompt per pair: none of 500 bootstrap samples of 19 prompts contains all 19.
    names = [f"s{number:02}" for number in range(20)]
    row = {"aspect": "style", "winner": "tie"}
    rows = [
        {**row, "prompt_id": left, "left_system": left, "right_system": right, "sample": sample}
        for left, right in itertools.pairwise(names)
        for sample in (0, 1)
    ]
    found = estimate_strengths(rows)
    assert [one.system for one in found] == names
    assert all(one.strength == pytest.approx(0, abs=1e-9) and one.low is None for one in found)


def test_a_tie_with_a_control_is_a_failure() -> None:
    def pair(prompt: str, original: float | None, corrupted: float | None) -> Rows:
        same = {"aspect": "motion", "mode": "strict", "prompt_id": prompt}
        return [rated(original, **same), rated(corrupted, control="frozen-frame", **same)]

    rows = [
        *pair("p", 8, 2),
        *pair("q", 5, 5),
        *pair("r", 4, 6),
        *pair("s", 9, None),
        *pair("t", 1, 1),
    ]
    [line] = summarize_controls(rows)
    assert (line.below, line.tied, line.above, line.missing) == (1, 1, 1, 1)
    assert line.at_floor == 1
    assert line.share is not None
    assert line.share.mean == pytest.approx(1 / 3)
    assert summarize_controls([rated(8, mode="strict")]) == []
