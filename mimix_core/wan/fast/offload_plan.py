"""Plan what waits in main memory during a training step: frozen blocks, inputs, activations.

Only what changes no result is planned from the free memory: where weights and inputs are, and
which activations are saved. A narrower format of the weights changes the result; it is a setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mimix_core.settings import LoraSettings
from mimix_core.wan.fast.activation_budget import (
    ADAPTER_COPIES,
    RESERVED_SHARE,
    WORKING_BLOCKS,
    ActivationPlan,
    BlockActivation,
    BlockGroup,
    BlockShape,
    block_activations,
    forward_seconds,
    plan_activations,
    plan_block_groups,
    total_bytes,
)
from mimix_core.wan.fast.weight_storage import stored_bytes

SLOTS = 2
"""Blocks on the GPU of those in main memory: one computes, one is copied."""
INPUTS_ON_GPU = 3
"""Inputs of blocks on the GPU if they wait in main memory: two like ``SLOTS``, one is written."""

# PCIe 4.0 with 16 lanes, pinned memory; copies that take longer than the computation cost time.
_COPY_BANDWIDTH = 20e9
# A step that is no more than this much slower without offload runs without.
_WORTHWHILE = 1.05
# Time of a backward pass without recomputation, in forward passes.
_BACKWARD = 2


@dataclass(frozen=True)
class OffloadPlan:
    """What waits in main memory.

    ``blocks``: the frozen weights of so many blocks. ``inputs``: the inputs of all blocks.
    """

    blocks: int = 0
    inputs: bool = False

    def offloaded(self, blocks: int) -> frozenset[int]:
        """Return the indices of the offloaded ones of ``blocks``, evenly spaced."""
        return frozenset(number * blocks // self.blocks for number in range(self.blocks))

    def describe(self, blocks: int) -> str:
        """Say what is where, for a person."""
        waiting = [f"{self.blocks} of {blocks} blocks"] if self.blocks else []
        waiting += ["the inputs of blocks"] if self.inputs else []
        if not waiting:
            return "all blocks stay on the GPU"
        return f"{' and '.join(waiting)} wait in main memory"


@dataclass(frozen=True)
class TrainingMemory:
    """What a training step needs, in bytes.

    ``block_weights``: a block's frozen weights as stored. ``expanded``: one block's as computed
    with, if that is another format. ``fixed``: all that no plan moves.
    """

    blocks: int
    block_weights: float
    expanded: float
    block_input: float
    fixed: float
    activations: tuple[BlockActivation, ...]

    def needed(self, plan: OffloadPlan) -> float:
        """Return the least memory of the GPU with a plan: all activations are recomputed."""
        weights = (self.blocks - plan.blocks) * self.block_weights + self.expanded
        if plan.blocks:
            weights += SLOTS * self.block_weights
        inputs = min(INPUTS_ON_GPU, self.blocks) if plan.inputs else self.blocks
        return self.fixed + weights + inputs * self.block_input

    def main_memory(self, plan: OffloadPlan) -> float:
        """Return the pinned main memory of a plan."""
        inputs = self.blocks * self.block_input if plan.inputs else 0.0
        return plan.blocks * self.block_weights + inputs


def estimate_training(
    shape: BlockShape,
    settings: LoraSettings,
    *,
    blocks: int,
    block_parameters: int,
    other_bytes: float,
    adapter_bytes: float,
    gpu_bytes: float,
) -> TrainingMemory:
    """Estimate a training step.

    ``shape``: of a micro batch. ``block_parameters``: of a block's frozen layers. ``other_bytes``:
    weights outside of them. ``adapter_bytes``: of the adapter alone, in fp32. ``gpu_bytes``: of the
    whole GPU, of which some is for libraries.
    """
    activations = tuple(block_activations(shape))
    stored = 1.0 if settings.fp8 else stored_bytes(settings.frozen_weights, shape.element_bytes)
    quantized = settings.frozen_weights != "full"
    return TrainingMemory(
        blocks=blocks,
        block_weights=stored * block_parameters,
        expanded=float(shape.element_bytes * block_parameters) if quantized else 0.0,
        block_input=_input_bytes(shape),
        fixed=other_bytes
        + (1 + ADAPTER_COPIES) * adapter_bytes
        + WORKING_BLOCKS * total_bytes(activations)
        + RESERVED_SHARE * gpu_bytes,
        activations=activations,
    )


def plan_offload(
    memory: TrainingMemory, usable: float, requested: Literal["auto"] | int
) -> OffloadPlan:
    """Plan for ``usable`` bytes of a GPU: the fastest step that fits, or the smallest if none does.

    Nothing is offloaded if all fits and is hardly slower so: main memory is scarce too.
    ``requested``: the number of blocks, unless it is to be planned.
    """
    plans = list(_plans(memory.blocks, requested))
    fitting = [plan for plan in plans if memory.needed(plan) <= usable]
    if not fitting:
        return min(plans, key=memory.needed)

    def seconds(plan: OffloadPlan) -> float:
        return _step_seconds(memory, plan, usable)

    best = min(fitting, key=lambda plan: (round(seconds(plan), 2), memory.main_memory(plan)))
    if OffloadPlan() in fitting and seconds(OffloadPlan()) <= _WORTHWHILE * seconds(best):
        return OffloadPlan()
    return best


def _plans(blocks: int, requested: Literal["auto"] | int) -> Iterator[OffloadPlan]:
    counts = range(blocks + 1) if requested == "auto" else [min(requested, blocks)]
    for count in counts:
        yield OffloadPlan(count)
        if count or requested == "auto":
            yield OffloadPlan(count, inputs=True)


def _step_seconds(memory: TrainingMemory, plan: OffloadPlan, usable: float) -> float:
    """Estimate the time of a step: computation, recomputation, and copies that take longer."""
    budget = usable - memory.needed(plan)
    saved = plan_activations(memory.activations, memory.blocks, budget).seconds_saved
    forward = memory.blocks * sum(item.recompute_seconds for item in memory.activations)
    backward = (1 + _BACKWARD) * forward - saved
    weights = plan.blocks * memory.block_weights / _COPY_BANDWIDTH
    inputs = memory.blocks * memory.block_input / _COPY_BANDWIDTH if plan.inputs else 0.0
    # Inputs leave in one direction while weights come in the other; both come back in one.
    return max(forward, weights, inputs) + max(backward, weights + inputs)


def group_blocks(blocks: Sequence[int], shape: BlockShape, plan: OffloadPlan) -> BlockGroup:
    """Group blocks that process as many tokens.

    A block's activations can be copied at the assumed bandwidth while a block runs forward, beside
    its input if that waits too. The backward pass takes twice as long, so there they come back
    beside a block's weights as well, if those are copied as fast as a forward pass needs them.
    """
    copied = _COPY_BANDWIDTH * forward_seconds(shape) - plan.inputs * _input_bytes(shape)
    return BlockGroup(blocks, block_activations(shape), max(0.0, copied))


def plan_saved_activations(
    groups: Sequence[BlockGroup], budget: float, main_memory: float
) -> ActivationPlan:
    """Plan which activations are saved: within ``budget`` bytes of the GPU, others in main memory.

    Where activations wait in main memory, those of one block more are on the GPU: they are being
    copied while the next block computes.
    """
    plan = plan_block_groups(groups, budget)
    copied = max(min(group.copied_bytes, total_bytes(group.activations)) for group in groups)
    smaller = plan_block_groups(groups, budget - min(main_memory, copied))
    offloading = _offload_activations(groups, smaller, main_memory)
    return max(plan, offloading, key=lambda one: one.seconds_saved)


def _offload_activations(
    groups: Sequence[BlockGroup], plan: ActivationPlan, main_memory: float
) -> ActivationPlan:
    """Let activations that ``plan`` recomputes wait in main memory, by recompute time per byte.

    Not those of the last blocks, with which the backward pass begins at once. At most one
    activation waits in only some of the blocks that could offload it: the first ones, whose
    backward pass is the last.
    """
    waiting = range(len(plan.saved) - SLOTS)
    offloaded: list[set[str]] = [set() for _ in plan.saved]
    copied = dict.fromkeys(waiting, 0.0)
    num_bytes, seconds = 0, 0.0
    ranked = [(item, group) for group in groups for item in group.activations]
    for item, group in sorted(ranked, key=lambda one: -one[0].seconds_per_byte):
        blocks = [
            block
            for block in group.blocks
            if block in waiting
            and item.name not in plan.saved[block]
            and copied[block] + item.num_bytes <= group.copied_bytes
        ]
        count = int(min(len(blocks), (main_memory - num_bytes) / item.num_bytes))
        for block in blocks[:count]:
            offloaded[block].add(item.name)
            copied[block] += item.num_bytes
        num_bytes += count * item.num_bytes
        seconds += count * item.recompute_seconds
        if count < len(blocks):
            break
    return replace(
        plan,
        saved=tuple(one | more for one, more in zip(plan.saved, offloaded, strict=True)),
        seconds_saved=plan.seconds_saved + seconds,
        offloaded=tuple(map(frozenset, offloaded)),
        offloaded_bytes=num_bytes,
    )


def _input_bytes(shape: BlockShape) -> float:
    return float(shape.samples * shape.tokens * shape.width * shape.element_bytes)
