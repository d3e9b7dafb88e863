"""Saved activations in main memory: no bit changes, nothing is recomputed, and memory is freed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mimix_core.wan import flow_matching, lora
from mimix_core.wan.fast import activation_checkpoint, host_memory, offload_plan
from mimix_core.wan.fast.activation_budget import block_activations
from mimix_core.wan.fast.host_memory import HostTensors
from mimix_core.wan.fast.named_outputs import observed_outputs
from mimix_core.wan.fast.offload_plan import OffloadPlan
from mimix_core.wan.fast.offloaded_activations import OffloadedActivations
from tests.wan import test_offload
from tests.wan.test_activation_budget import WAN_14B
from tests.wan.test_fast import TARGETS, Calls, loss_of, step
from tests.wan.test_offload import (
    BLOCKS,
    accelerated,
    deep_folder,
    equal,
    one_thread,
    several_steps,
    stream,
    wanted,
)
from tests.wan.test_token_routing import routed_step

__all__ = ["deep_folder", "one_thread", "stream", "wanted"]

pytestmark = pytest.mark.slow

WAITING = range(BLOCKS - 2)
"""The backward pass begins with the last two blocks at once."""
NAMES = {activation.name for activation in block_activations(WAN_14B)}
ALL = {"activation_budget_gb": 0.0, "offload_activations_gb": 1.0}
"""Of the first blocks, all activations wait in main memory."""


@pytest.fixture(autouse=True)
def fast_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies take no time, so that a tiny model's computation hides them."""
    monkeypatch.setattr(offload_plan, "_COPY_BANDWIDTH", 1e15)


def offloaded(model: Any) -> tuple[frozenset[str], ...]:
    blocks = model._gradient_checkpointing_func
    (plan,) = getattr(blocks, "run_block", blocks).activation_plans.values()
    return plan.offloaded


def count_outputs(model: Any) -> int:
    """Count the tensors that a block's named operators return, but for the last layer's."""
    names: list[str] = []
    with observed_outputs(lambda name, _: names.append(name)), torch.no_grad():
        loss_of(model)
    found = [name for name in names if name in NAMES]
    assert len(names) == len(found) + BLOCKS
    assert set(found) == NAMES
    return len(found) // BLOCKS


def waiting_in(model: Any) -> HostTensors:
    return model._gradient_checkpointing_func._activations._host


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("plan", [OffloadPlan(), OffloadPlan(3, inputs=True)])
@pytest.mark.parametrize(
    "asked",
    # Of a block, some are saved on the GPU and others recomputed; one waits in some blocks only.
    [ALL, {"activation_budget_gb": 0.0006, "offload_activations_gb": 0.0007}],
)
def test_activations_in_main_memory_change_no_bit(
    deep_folder: Path,
    wanted: list[torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    plan: OffloadPlan,
    asked: dict[str, Any],
) -> None:
    # Tensors lie across the borders of what is allocated.
    monkeypatch.setattr(host_memory, "_CHUNK", 5000)
    model = accelerated(deep_folder, plan, **asked)
    assert equal(several_steps(model), wanted)
    names = offloaded(model)
    assert not any(names[-2:])
    if asked is ALL:
        assert set(names[:3]) == {frozenset(NAMES)}
    else:
        assert len(set(names[:3])) == 2
        assert all(frozenset() < some < NAMES for some in names[:3])


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("asked", [{"fp8": True}, {"use_dora": True}, {"frozen_weights": "int8"}])
def test_no_bit_of_other_ways_to_train_changes(deep_folder: Path, asked: dict[str, Any]) -> None:
    here = several_steps(accelerated(deep_folder, OffloadPlan(), **asked))
    for plan in (OffloadPlan(), OffloadPlan(3, inputs=True)):
        model = accelerated(deep_folder, plan, **asked, **ALL)
        assert equal(several_steps(model), here)
        assert set(offloaded(model)[0]) == NAMES


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("plan", [OffloadPlan(), OffloadPlan(3, inputs=True)])
def test_no_bit_changes_where_tokens_skip_blocks(deep_folder: Path, plan: OffloadPlan) -> None:
    found = []
    for asked in ({}, ALL):
        model = accelerated(deep_folder, plan, routed_tokens=0.5, **asked)
        loss, grads = routed_step(model, 0.5)
        found.append([loss, *grads.values()])
    assert equal(*found)
    assert list(map(len, offloaded(model))) == [len(NAMES)] * 3 + [0] * 2


@pytest.mark.parametrize("asked", [{}, {"fp8": True}, {"use_dora": True}])
@pytest.mark.parametrize("targets", [TARGETS, (*TARGETS, "to_k")])
def test_every_operator_that_can_be_saved_reports_its_outputs(
    deep_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    targets: tuple[str, ...],
) -> None:
    monkeypatch.setattr(test_offload, "TARGETS", targets)
    model = accelerated(deep_folder, OffloadPlan(), **asked)
    returned: list[tuple[str, int]] = []
    reported: list[tuple[str, int]] = []

    class Outputs(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if func in activation_checkpoint._NAMED_OPERATORS:
                for one in (out,) if isinstance(out, torch.Tensor) else out:
                    returned.append((args[0], one.untyped_storage().data_ptr()))
            return out

    def observe(name: str, output: torch.Tensor) -> None:
        reported.append((name, output.untyped_storage().data_ptr()))

    with observed_outputs(observe), Outputs(), torch.no_grad():
        loss_of(model)
    assert {name for name, _ in returned} == {*NAMES, "ffn.net.2"}
    assert reported == returned


def test_the_log_says_once_for_each_shape_where_activations_are(deep_folder: Path) -> None:
    lines: list[str] = []
    model = accelerated(deep_folder, OffloadPlan(3, inputs=True), **ALL, log=lines.append)
    assert lines == ["3 of 5 blocks and the inputs of blocks wait in main memory"]
    several_steps(model)
    (plan,) = model._gradient_checkpointing_func.activation_plans.values()
    assert plan.num_bytes == 0
    assert len(lines) == 2
    assert lines[1] == plan.describe()
    assert replace(plan, num_bytes=10**9, offloaded_bytes=2 * 10**9).describe() == (
        "1.0 GB of saved activations stay on the GPU, 2.0 GB in main memory"
    )
    passes(model, [(1, 12)])
    assert len(lines) == 3


def test_offloaded_activations_are_not_recomputed(deep_folder: Path) -> None:
    model = accelerated(deep_folder, OffloadPlan(), **ALL)
    with Calls() as calls:
        step(model)
    recomputed = BLOCKS + 2
    assert calls.found["attention attn1.attention"] == recomputed
    assert calls.found["attention attn2.attention"] == recomputed
    assert calls.found["adapted_linear ffn.net.0.proj"] == recomputed


def test_memory_is_freed_until_the_backward_pass(
    deep_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_device: list[set[int]] = []

    def note(host: HostTensors) -> None:
        full = {index for index, found in host._waiting.items() if found[0].storage.nbytes()}
        on_device.append(full)

    save, before = HostTensors.save, OffloadedActivations._before_backward

    def saved(host: HostTensors, index: int, tensor: torch.Tensor) -> None:
        save(host, index, tensor)
        note(host)

    def prepared(activations: OffloadedActivations, index: int, number: int) -> None:
        before(activations, index, number)
        note(activations._host)

    monkeypatch.setattr(HostTensors, "save", saved)
    monkeypatch.setattr(OffloadedActivations, "_before_backward", prepared)
    model = accelerated(deep_folder, OffloadPlan(), **ALL)
    tensors = count_outputs(model)
    loss = loss_of(model)
    # A block's activations and those of the block before, which are copied meanwhile.
    assert on_device == [{0}] * tensors + [{0, 1}] * tensors + [{1, 2}] * tensors
    host = waiting_in(model)
    assert list(host._waiting) == list(WAITING)
    waiting = [one for index in WAITING for one in host._waiting[index]]
    assert len(waiting) == len(WAITING) * tensors
    assert all(one.storage.nbytes() == 0 < one.num_bytes for one in waiting)
    on_device.clear()
    loss.backward()
    # What is restored belongs to autograd again; the next block's is on its way.
    assert on_device == [set(), {2}, {1}, {0}, set()]
    assert not host._waiting


def passes(model: Any, shapes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """Losses and accumulated gradients of passes with samples of these frames and heights."""
    found = []
    for number, (frames, height) in enumerate(shapes):
        numbers = torch.Generator().manual_seed(number)
        latents, noise = (
            torch.randn(1, 16, frames, height, 8, generator=numbers) for _ in range(2)
        )
        text = torch.randn(1, 512, 32, generator=numbers)
        loss = flow_matching.velocity_losses(
            model, latents, text, torch.tensor([0.4]), noise, torch.float32
        ).mean()
        loss.backward()
        found.append(loss.detach())
    return found + [weight.grad for _, weight in lora.adapter_parameters(model)]


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("plan", [OffloadPlan(), OffloadPlan(3, inputs=True)])
def test_several_passes_and_shapes_of_a_step_share_main_memory(
    deep_folder: Path, monkeypatch: pytest.MonkeyPatch, plan: OffloadPlan
) -> None:
    monkeypatch.setattr(host_memory, "_CHUNK", 2**16)
    shapes = [(2, 8), (2, 8), (3, 4), (1, 12), (2, 8)]
    here = passes(accelerated(deep_folder, OffloadPlan(), activation_budget_gb=0.0), shapes)
    model = accelerated(deep_folder, plan, **ALL)
    assert equal(passes(model, shapes), here)
    alone = accelerated(deep_folder, plan, **ALL)
    passes(alone, shapes[:1])
    assert len(waiting_in(model)._chunks) == len(waiting_in(alone)._chunks) > 1


def test_a_pass_without_a_backward_pass_is_forgotten(
    deep_folder: Path, wanted: list[torch.Tensor]
) -> None:
    model = accelerated(deep_folder, OffloadPlan(), **ALL)
    abandoned = loss_of(model)
    assert equal(several_steps(model), wanted)
    with pytest.raises(AssertionError, match="another forward pass began"):
        abandoned.backward()


@pytest.mark.e2e
@pytest.mark.parametrize("plan", [OffloadPlan(), OffloadPlan(3, inputs=True)])
def test_compiled_blocks_offload_as_well(deep_folder: Path, plan: OffloadPlan) -> None:
    """Those whose activations wait share the graph of those that save them on the GPU."""

    def compiled_step(model: Any) -> tuple[list[torch.Tensor], Counter[str]]:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        for saved in (frozenset(), frozenset(NAMES)):
            model._gradient_checkpointing_func._block_functions[saved] = torch.compile(
                activation_checkpoint.checkpointed_block(saved, compiled=False),
                backend="aot_eager_decomp_partition",
                dynamic=False,
            )
        recomputed: Counter[str] = Counter()
        loss = loss_of(model)
        if model._gradient_checkpointing_func._activations is not None:
            waiting = [one for found in waiting_in(model)._waiting.values() for one in found]
            assert len(waiting) == len(WAITING) * count_outputs(model)
            assert all(one.storage.nbytes() == 0 < one.num_bytes for one in waiting)
        with observed_outputs(lambda name, _: recomputed.update([name])):
            loss.backward()
        grads = [weight.grad for _, weight in lora.adapter_parameters(model)]
        return [loss.detach(), *grads], recomputed

    here, recomputed = compiled_step(accelerated(deep_folder, plan))
    assert not recomputed
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    model = accelerated(deep_folder, plan, **ALL)
    away, recomputed = compiled_step(model)
    # One more, of the last blocks, which save nothing.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs + 1
    assert not torch._dynamo.utils.counters["graph_break"]
    assert set(recomputed) == NAMES
    assert recomputed["ffn.net.0.proj"] == BLOCKS - len(WAITING)
    assert not waiting_in(model)._waiting
    assert equal(away, here)


def test_a_block_may_compute_what_waits_without_a_named_operator() -> None:
    """As peft does DoRA's layers: then nothing of it waits."""
    blocks = OffloadedActivations(torch.device("cpu"), 1e9)
    hidden_BLD = torch.ones(1, 2, 3, requires_grad=True)
    out_BLD = hidden_BLD
    for index in range(3):
        out_BLD = blocks.run(index, {"ffn.net.0.proj"}, lambda x_BLD: 2 * x_BLD, out_BLD)
    out_BLD.sum().backward()
    assert hidden_BLD.grad is not None
    assert torch.equal(hidden_BLD.grad, torch.full((1, 2, 3), 8.0))
