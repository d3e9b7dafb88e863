"""Activation plans: the budget is respected, and a larger budget saves at least as much time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.wan.fast.activation_budget import (
    BlockActivation,
    BlockShape,
    block_activations,
    plan_activations,
    total_bytes,
)

WAN_14B = BlockShape(
    tokens=32760,
    text_tokens=512,
    samples=1,
    width=5120,
    heads=40,
    ffn_width=13824,
    element_bytes=2,
    fp8=False,
)
activation_lists = st.lists(
    st.builds(
        BlockActivation,
        name=st.uuids().map(str),
        num_bytes=st.integers(1, 1000),
        recompute_seconds=st.floats(1e-3, 10.0),
    ),
    min_size=1,
    max_size=6,
).map(lambda items: sorted(items, key=lambda item: -item.seconds_per_byte))


@settings(max_examples=200, deadline=None)
@given(activation_lists, st.integers(1, 8), st.integers(0, 20_000), st.integers(0, 5_000))
def test_a_larger_budget_saves_no_less_and_none_is_exceeded(
    activations: list[BlockActivation], blocks: int, budget: int, more: int
) -> None:
    plan, larger = (plan_activations(activations, blocks, size) for size in (budget, budget + more))
    assert plan.num_bytes <= budget
    assert plan.num_bytes == sum(
        p.num_bytes * sum(p.name in names for names in plan.saved) for p in activations
    )
    assert larger.seconds_saved >= plan.seconds_saved
    assert len(plan.saved) == blocks
    # At most two kinds of blocks, each compiled once.
    assert len(set(plan.saved)) <= 2


@settings(max_examples=200, deadline=None)
@given(activation_lists, st.integers(1, 8), st.integers(0, 20_000))
def test_no_recomputed_activation_is_worth_more_than_a_saved_one(
    activations: list[BlockActivation], blocks: int, budget: int
) -> None:
    plan = plan_activations(activations, blocks, budget)
    saved = {name for names in plan.saved for name in names}
    left_out = {p.name for p in activations if any(p.name not in names for names in plan.saved)}
    worth = {item.name: item.seconds_per_byte for item in activations}
    assert all(worth[s] >= worth[o] for s in saved for o in left_out if s != o)


def test_empty_and_unlimited_budgets() -> None:
    activations = block_activations(WAN_14B)
    assert plan_activations(activations, 40, 0).num_bytes == 0
    assert plan_activations(activations, 40, -1e9).num_bytes == 0
    everything = plan_activations(activations, 40, float("inf"))
    assert everything.num_bytes == 40 * total_bytes(activations)
    assert set(everything.saved) == {frozenset(item.name for item in activations)}


def test_attention_is_worth_most_and_text_needs_few_bytes() -> None:
    activations = block_activations(WAN_14B)
    assert activations[0].name == "attn1.attention"
    # Recomputing its 335 MB takes 38 ms; a layer of the model's width takes 2.5 ms for as much.
    assert activations[0].seconds_per_byte > 10 * activations[1].seconds_per_byte
    assert activations[-1].name == "attn2.attention"
    sizes = {item.name: item.num_bytes for item in activations}
    assert sizes["attn1.to_qkv"] == 3 * 32760 * 5120 * 2
    assert sizes["attn2.to_kv"] == 2 * 512 * 5120 * 2


def test_in_fp8_layers_are_worth_less_and_attention_the_same() -> None:
    wide = {item.name: item for item in block_activations(WAN_14B)}
    narrow = {p.name: p for p in block_activations(BlockShape(**{**vars(WAN_14B), "fp8": True}))}
    assert narrow["attn1.to_qkv"].seconds_per_byte < wide["attn1.to_qkv"].seconds_per_byte
    assert narrow["attn1.attention"] == wide["attn1.attention"]
