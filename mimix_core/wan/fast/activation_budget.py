"""Plan which activations each block saves: the most recompute time within a budget of bytes.

The backward pass needs each activation here directly (a layer's input for its adapter, the operands
of attention and of norms), so saving one saves exactly the time of its own operator, independently
of the others. Filling the budget over all blocks by time per byte is therefore optimal. Always
saved: each block's input and the adapters' inner products, which are small. Never saved:
``ffn.net.2``, whose output the backward pass does not need. A compiled block does not recompute it;
an eager one does, because PyTorch detects only afterwards that the output is unused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

# Throughput of an H200 (perf/train_kernels.py); only the ratios matter here.
_MATMUL_FLOPS = 750e12
_MATMUL_FP8_FLOPS = 1300e12
_ATTENTION_FLOPS = 570e12
_MEMORY_BANDWIDTH = 4.3e12
_STATISTICS_BYTES = 4

WORKING_BLOCKS = 2.0
"""Working memory of a block's backward pass besides saved activations, in units of all activations
of one block."""
ADAPTER_COPIES = 6
"""fp32 copies of the adapters: gradients, AdamW's two moments, DeepSpeed's copies of both, and its
buffer for gradients."""
RESERVED_SHARE = 0.03
"""Share of a GPU's memory for libraries and fragmentation."""


@dataclass(frozen=True)
class BlockShape:
    """The sizes of the model and of one micro batch that determine a block's cost."""

    tokens: int
    text_tokens: int
    samples: int
    width: int
    heads: int
    ffn_width: int
    element_bytes: int
    fp8: bool


@dataclass(frozen=True)
class BlockActivation:
    """The output of one operator in a block: its size, and the time to recompute it."""

    name: str
    num_bytes: int
    recompute_seconds: float

    @property
    def seconds_per_byte(self) -> float:
        return self.recompute_seconds / self.num_bytes


@dataclass(frozen=True)
class ActivationPlan:
    """The activations that each block saves, with total bytes on the GPU and recompute time saved.

    ``offloaded``: those of a block's saved ones that wait in main memory, with total bytes.
    """

    saved: tuple[frozenset[str], ...]
    num_bytes: int
    seconds_saved: float
    offloaded: tuple[frozenset[str], ...]
    offloaded_bytes: int = 0

    def describe(self) -> str:
        """Say where saved activations are, for a person."""
        gpu, main = self.num_bytes / 1e9, self.offloaded_bytes / 1e9
        return f"{gpu:.1f} GB of saved activations stay on the GPU, {main:.1f} GB in main memory"


def block_activations(shape: BlockShape) -> list[BlockActivation]:
    """List a block's activations by decreasing recompute time per byte."""
    video, text = shape.samples * shape.tokens, shape.samples * shape.text_tokens
    activations = [
        _linear("attn1.to_qkv", video, 3 * shape.width, shape),
        _attention("attn1.attention", shape.tokens, shape),
        _linear("attn1.to_out.0", video, shape.width, shape),
        _linear("attn2.to_q", video, shape.width, shape),
        _linear("attn2.to_kv", text, 2 * shape.width, shape),
        _attention("attn2.attention", shape.text_tokens, shape),
        _linear("attn2.to_out.0", video, shape.width, shape),
        _linear("ffn.net.0.proj", video, shape.ffn_width, shape),
    ]
    return sorted(activations, key=lambda item: (-item.seconds_per_byte, item.name))


def forward_seconds(shape: BlockShape) -> float:
    """Return the time of a block's large operators, which is most of its forward pass."""
    last = replace(shape, width=shape.ffn_width)
    outputs = _linear("ffn.net.2", shape.samples * shape.tokens, shape.width, last)
    named = sum(activation.recompute_seconds for activation in block_activations(shape))
    return named + outputs.recompute_seconds


def _linear(name: str, tokens: int, outputs: int, shape: BlockShape) -> BlockActivation:
    """Estimate a layer with its adapter: the output is written twice and read once."""
    num_bytes = tokens * outputs * shape.element_bytes
    throughput = _MATMUL_FP8_FLOPS if shape.fp8 else _MATMUL_FLOPS
    matmul = 2 * tokens * shape.width * outputs / throughput
    return BlockActivation(name, num_bytes, matmul + 3 * num_bytes / _MEMORY_BANDWIDTH)


def _attention(name: str, keys: int, shape: BlockShape) -> BlockActivation:
    tokens = shape.samples * shape.tokens
    num_bytes = tokens * (shape.width * shape.element_bytes + shape.heads * _STATISTICS_BYTES)
    matmul = 4 * tokens * keys * shape.width / _ATTENTION_FLOPS
    return BlockActivation(name, num_bytes, matmul + num_bytes / _MEMORY_BANDWIDTH)


@dataclass(frozen=True)
class BlockGroup:
    """Blocks that process as many tokens: their indices, and the activations of each one.

    ``copied_bytes``: of a block's activations, how many can be copied while a block computes.
    """

    blocks: Sequence[int]
    activations: Sequence[BlockActivation]
    copied_bytes: float = 0.0


def plan_activations(
    activations: Sequence[BlockActivation], blocks: int, budget: float
) -> ActivationPlan:
    """Fill ``budget`` bytes in the given order, each activation in as many blocks as fit.

    At most one activation is saved in only some of the blocks, so there are at most two kinds of
    compiled blocks.
    """
    return plan_block_groups([BlockGroup(range(blocks), activations)], budget)


def plan_block_groups(groups: Sequence[BlockGroup], budget: float) -> ActivationPlan:
    """Fill ``budget`` bytes with activations of all groups, those of most time per byte first.

    The groups' blocks are all blocks together, and the activations of a group are in that order. At
    most one activation is saved in only some blocks of its group: the last ones, whose backward
    pass is the first.
    """
    saved: dict[int, set[str]] = {block: set() for group in groups for block in group.blocks}
    num_bytes, seconds = 0, 0.0
    ranked = [(item, group.blocks) for group in groups for item in group.activations]
    for activation, blocks in sorted(ranked, key=lambda one: -one[0].seconds_per_byte):
        count = int(max(0.0, min(len(blocks), (budget - num_bytes) / activation.num_bytes)))
        for block in blocks[len(blocks) - count :]:
            saved[block].add(activation.name)
        num_bytes += count * activation.num_bytes
        seconds += count * activation.recompute_seconds
        if count < len(blocks):
            break
    return ActivationPlan(
        saved=tuple(frozenset(saved[block]) for block in sorted(saved)),
        num_bytes=num_bytes,
        seconds_saved=seconds,
        offloaded=(frozenset(),) * len(saved),
    )


def total_bytes(activations: Sequence[BlockActivation]) -> int:
    """Return the bytes of all activations of one block."""
    return sum(activation.num_bytes for activation in activations)
