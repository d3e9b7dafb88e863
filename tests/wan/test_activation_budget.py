"""What blocks keep for the backward pass: the budget holds, and more of it saves more time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.wan.fast.activation_budget import Place, Sizes, all_bytes, choose, places

WAN_14B = Sizes(
    tokens=32760,
    text_tokens=512,
    samples=1,
    width=5120,
    heads=40,
    ffn=13824,
    bytes_each=2,
    fp8=False,
)
offers = st.lists(
    st.builds(
        Place,
        name=st.uuids().map(str),
        size=st.integers(1, 1000),
        seconds=st.floats(1e-3, 10.0),
    ),
    min_size=1,
    max_size=6,
).map(lambda found: sorted(found, key=lambda place: -place.worth))


@settings(max_examples=200, deadline=None)
@given(offers, st.integers(1, 8), st.integers(0, 20_000), st.integers(0, 5_000))
def test_a_larger_budget_saves_no_less_and_none_is_overdrawn(
    offered: list[Place], blocks: int, budget: int, more: int
) -> None:
    plan, larger = (choose(offered, blocks, size) for size in (budget, budget + more))
    assert plan.size <= budget
    assert plan.size == sum(p.size * sum(p.name in kept for kept in plan.kept) for p in offered)
    assert larger.seconds >= plan.seconds
    assert len(plan.kept) == blocks
    # A compiled block comes in two kinds at most: each is compiled once.
    assert len(set(plan.kept)) <= 2


@settings(max_examples=200, deadline=None)
@given(offers, st.integers(1, 8), st.integers(0, 20_000))
def test_no_place_left_out_was_worth_more_than_one_kept(
    offered: list[Place], blocks: int, budget: int
) -> None:
    plan = choose(offered, blocks, budget)
    kept = {name for names in plan.kept for name in names}
    left_out = {p.name for p in offered if any(p.name not in names for names in plan.kept)}
    worth = {place.name: place.worth for place in offered}
    assert all(worth[k] >= worth[o] for k in kept for o in left_out if k != o)


def test_nothing_and_everything() -> None:
    offered = places(WAN_14B)
    assert choose(offered, 40, 0).size == 0
    assert choose(offered, 40, -1e9).size == 0
    whole = choose(offered, 40, float("inf"))
    assert whole.size == 40 * all_bytes(offered)
    assert set(whole.kept) == {frozenset(place.name for place in offered)}


def test_attention_comes_first_and_a_texts_few_bytes_hardly_count() -> None:
    offered = places(WAN_14B)
    assert offered[0].name == "attn1.attention"
    # Recomputing it takes 38 ms of 335 MB; a layer of the model's width takes 2.5 ms of as much.
    assert offered[0].worth > 10 * offered[1].worth
    assert offered[-1].name == "attn2.attention"
    sizes = {place.name: place.size for place in offered}
    assert sizes["attn1.to_q"] == 32760 * 5120 * 2
    assert sizes["attn2.to_k"] == 512 * 5120 * 2


def test_in_fp8_layers_are_worth_less_and_attention_as_much() -> None:
    wide = {place.name: place for place in places(WAN_14B)}
    narrow = {p.name: p for p in places(Sizes(**{**vars(WAN_14B), "fp8": True}))}
    assert narrow["attn1.to_q"].worth < wide["attn1.to_q"].worth
    assert narrow["attn1.attention"] == wide["attn1.attention"]
