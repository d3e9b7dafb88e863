"""Offload plans: what fits a card, and that nothing is moved where nothing is gained."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mimix_core.engine.cache_key import canonical_json
from mimix_core.engine.gpu_memory import usable_memory
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.wan import frozen_weights
from mimix_core.wan.fast import block_placement
from mimix_core.wan.fast.activation_budget import (
    ActivationPlan,
    BlockGroup,
    forward_seconds,
    plan_block_groups,
    total_bytes,
)
from mimix_core.wan.fast.offload_plan import (
    OffloadPlan,
    TrainingMemory,
    estimate_training,
    group_blocks,
    plan_offload,
    plan_saved_activations,
)
from mimix_core.wan.frozen_weights import WAN_CLASS, check_frozen_weights
from mimix_core.wan.token_routing import middle_blocks
from tests.wan.test_activation_budget import WAN_14B

GB = 1e9


def memory(
    settings: LoraSettings | None = None, gb: float = 24, frames: int = 81
) -> TrainingMemory:
    """A step of Wan2.1-T2V-14B with rank 32 at 480 x 832."""
    shape = {**vars(WAN_14B), "tokens": ((frames - 1) // 4 + 1) * 30 * 52}
    return estimate_training(
        type(WAN_14B)(**shape),
        settings or LoraSettings(),
        blocks=40,
        block_parameters=8 * 5120**2 + 2 * 5120 * 13824,
        other_bytes=0.75 * GB,
        adapter_bytes=0.61 * GB,
        gpu_bytes=gb * GB,
    )


@pytest.mark.parametrize(
    ("gb", "asked", "blocks", "inputs"),
    [
        (141, {}, 0, False),
        # As before there was offload: without it, it would be 0.5 % slower.
        (84, {}, 0, False),
        (50, {}, 38, True),
        (24, {}, 40, True),
        (50, {"frozen_weights": "nf4"}, 0, False),
        (24, {"frozen_weights": "int8"}, 40, True),
    ],
)
def test_a_step_of_the_14b_fits_the_card(
    gb: float, asked: dict[str, str], blocks: int, inputs: bool
) -> None:
    needs = memory(LoraSettings.model_validate(asked), gb)
    plan = plan_offload(needs, gb * GB, "auto")
    assert (plan.blocks, plan.inputs) == (blocks, inputs)
    assert needs.needed(plan) <= gb * GB


def test_short_clips_offload_fewer_blocks_because_copies_would_take_longer() -> None:
    short, long = (plan_offload(memory(frames=n), 24 * GB, "auto") for n in (17, 81))
    assert 0 < short.blocks < long.blocks == 40


def test_too_small_a_card_gets_the_smallest_step() -> None:
    needs = memory(gb=8)
    plan = plan_offload(needs, 8 * GB, "auto")
    assert plan == OffloadPlan(40, inputs=True)
    assert needs.needed(plan) > 8 * GB
    assert needs.main_memory(plan) == pytest.approx(41.5 * GB, rel=0.01)


def test_a_number_of_blocks_is_taken_as_it_is() -> None:
    assert plan_offload(memory(), 141 * GB, 7).blocks == 7
    assert plan_offload(memory(), 24 * GB, 0) == OffloadPlan(0)
    assert plan_offload(memory(), 24 * GB, 99).blocks == 40


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 40))
def test_offloaded_blocks_are_spread_evenly(blocks: int, wanted: int) -> None:
    offloaded = sorted(OffloadPlan(min(wanted, blocks)).offloaded(blocks))
    assert len(offloaded) == min(wanted, blocks)
    gaps = {b - a for a, b in pairwise(offloaded)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert not offloaded or 0 <= offloaded[0] <= offloaded[-1] < blocks


def test_a_plan_says_what_waits() -> None:
    assert OffloadPlan().describe(40) == "all blocks stay on the GPU"
    assert OffloadPlan(20).describe(40) == "20 of 40 blocks wait in main memory"
    assert OffloadPlan(0, inputs=True).describe(40) == "the inputs of blocks wait in main memory"


def test_a_limit_of_this_process_is_the_size_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_of_gpu = {
        "mem_get_info": (100, 141),
        "memory_reserved": 10,
        "memory_allocated": 4,
        "current_device": 0,
    }
    for name, value in memory_of_gpu.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    for fraction, expected in ((1.0, (106, 141)), (0.5, (66, 70))):
        monkeypatch.setattr(
            torch.cuda, "get_per_process_memory_fraction", lambda _, share=fraction: share
        )
        assert usable_memory(torch.device("cuda")) == expected


def test_settings_of_before_keep_their_key_and_offload_is_in_none() -> None:
    assert "frozen_weights" not in canonical_json(LoraSettings())
    assert canonical_json(LoraSettings(frozen_weights="int8"))["frozen_weights"] == "int8"
    assert canonical_json(LoraSettings(offload_blocks=3)) == canonical_json(LoraSettings())
    assert canonical_json(LoraSettings(offload_activations_gb=3)) == canonical_json(LoraSettings())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"frozen_weights": "int8", "fp8": True}, "or fp8 to false"),
        ({"frozen_weights": "nf4", "use_dora": True}, "or use_dora to false"),
        ({"frozen_weights": "int8", "zero_stage": 3}, "zero_stage to 0, 1 or 2"),
        ({"offload_blocks": 2, "zero_stage": 3}, "zero_stage to 0, 1 or 2"),
        ({"offload_activations_gb": 1, "zero_stage": 3}, "zero_stage to 0, 1 or 2"),
        ({"offload_activations_gb": -1}, "greater than or equal to 0"),
        ({"offload_blocks": -1}, "greater than or equal to 0"),
        ({"frozen_weights": "int4"}, "'full', 'int8' or 'nf4'"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(asked: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LoraSettings.model_validate(asked)


def test_what_only_wan_supports_and_a_missing_package_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = "MochiTransformer3DModel"
    check_frozen_weights(LoraSettings(), other)
    check_frozen_weights(LoraSettings(frozen_weights="int8", offload_blocks=3), WAN_CLASS)
    wan_only: list[dict[str, object]] = [
        {"fp8": True},
        {"frozen_weights": "int8"},
        {"offload_blocks": 3},
        {"offload_activations_gb": 3.0},
    ]
    for asked in wan_only:
        [key] = asked
        with pytest.raises(BadInput, match=f"{key} is not implemented for {other}.*only Wan"):
            check_frozen_weights(LoraSettings.model_validate(asked), other)
    monkeypatch.setattr(frozen_weights, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"nf4 needs the package bitsandbytes.*mimix\[nf4\]"):
        check_frozen_weights(LoraSettings(frozen_weights="nf4"), WAN_CLASS)


def saved_and_offloaded(plan: ActivationPlan, name: str) -> tuple[list[int], list[int]]:
    """Blocks that save an activation on the GPU, and those that let it wait in main memory."""
    pairs = list(enumerate(zip(plan.saved, plan.offloaded, strict=True)))
    assert all(waiting <= saved for _, (saved, waiting) in pairs)
    return (
        [index for index, (saved, waiting) in pairs if name in saved - waiting],
        [index for index, (_, waiting) in pairs if name in waiting],
    )


def test_what_an_h200_recomputes_of_the_14b_waits_in_main_memory_instead() -> None:
    group = group_blocks(range(40), WAN_14B, OffloadPlan(40, inputs=True))
    on_gpu = plan_saved_activations([group], 117 * GB, 0.0)
    assert on_gpu == plan_block_groups([group], 117 * GB)
    assert not any(on_gpu.offloaded)
    plan = plan_saved_activations([group], 117 * GB, 40 * GB)
    widest = {item.name: item.num_bytes for item in group.activations}["ffn.net.0.proj"]
    assert widest < group.copied_bytes < 2 * widest
    # On the GPU in the last blocks; in flight, those of one block more.
    saved, offloaded = saved_and_offloaded(plan, "ffn.net.0.proj")
    assert offloaded == list(range(len(offloaded)))
    assert saved == list(range(len(offloaded), 40))
    assert 117 * GB - group.copied_bytes - widest < plan.num_bytes < 117 * GB - group.copied_bytes
    # Where that one is on the GPU, there is time to copy another.
    assert saved_and_offloaded(plan, "attn2.attention") == ([], saved[:-2])
    assert plan.seconds_saved - on_gpu.seconds_saved == pytest.approx(0.12, abs=0.02)
    assert len(set(plan.saved)) == 2


def test_a_blocks_input_takes_its_share_of_the_copies() -> None:
    alone, beside = (group_blocks([0], WAN_14B, OffloadPlan(0, inputs)) for inputs in (False, True))
    assert alone.copied_bytes - beside.copied_bytes == pytest.approx(32760 * 5120 * 2)
    assert forward_seconds(WAN_14B) == pytest.approx(0.07, rel=0.05)
    short = replace(WAN_14B, tokens=WAN_14B.tokens // 100)
    assert (
        group_blocks([0], short, OffloadPlan()).copied_bytes < total_bytes(alone.activations) / 100
    )


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    st.floats(0, 160),
    st.floats(0, 160),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.booleans(),
    st.integers(3, 40),
)
def test_offloaded_activations_stay_within_memory_and_copies(
    gpu: float, main: float, share: float, inputs: bool, blocks: int
) -> None:
    middle = middle_blocks(blocks) if share else range(0)
    outer = [index for index in range(blocks) if index not in middle]
    shapes = [WAN_14B, replace(WAN_14B, tokens=int(WAN_14B.tokens * (1 - share)))]
    groups: list[BlockGroup] = [
        group_blocks(indices, shape, OffloadPlan(0, inputs))
        for indices, shape in zip((outer, middle), shapes, strict=True)
        if indices
    ]
    plan = plan_saved_activations(groups, gpu * GB, main * GB)
    without = plan_block_groups(groups, gpu * GB)
    assert plan.seconds_saved >= without.seconds_saved
    assert not any(plan.offloaded[-2:])
    on_gpu, offloaded, in_flight, seconds = 0.0, 0.0, 0.0, 0.0
    for group in groups:
        for index in group.blocks:
            waiting = [x for x in group.activations if x.name in plan.offloaded[index]]
            saved = [x for x in group.activations if x.name in plan.saved[index]]
            assert total_bytes(waiting) <= group.copied_bytes
            on_gpu += total_bytes(saved) - total_bytes(waiting)
            offloaded += total_bytes(waiting)
            in_flight = max(in_flight, total_bytes(waiting))
            seconds += sum(x.recompute_seconds for x in saved)
    assert on_gpu == plan.num_bytes
    assert offloaded <= main * GB
    assert plan.seconds_saved == pytest.approx(seconds)
    if gpu * GB >= in_flight:
        assert on_gpu + in_flight <= gpu * GB
    assert len(set(plan.saved)) <= 8
    assert Counter(plan.offloaded)[frozenset()] >= 2


def test_half_of_the_main_memory_is_for_activations_of_all_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(block_placement, "available_main_memory", lambda: 80 * 10**9)
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    four = LoraSettings(num_processes=4)
    assert block_placement.activation_memory(four, gpu) == 10 * GB
    assert block_placement.activation_memory(four, cpu) == 0
    asked = LoraSettings(num_processes=4, offload_activations_gb=3)
    assert block_placement.activation_memory(asked, cpu) == 3 * GB
