"""What each block keeps for the backward pass: the most recompute time for a number of bytes.

Every place here is needed in the backward pass itself (a layer's input for its adapter, the
operands of attention and of norms), so that keeping one saves exactly its own operation's time,
whatever else is kept. Filling the budget by time a byte, over all blocks, is then the best choice.
Always kept: each block's input and the adapters' inner products, both small. Never kept:
``ffn.net.2``, whose output no backward pass needs; a compiled block does not compute it again, an
eager one does, since PyTorch finds out afterwards that nobody wanted it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# An H200's rates (perf/train_kernels.py); only their ratios matter here.
_MATMUL = 750e12
_MATMUL_FP8 = 1300e12
_ATTENTION = 570e12
_MEMORY = 4.3e12
_STATISTICS_BYTES = 4


@dataclass(frozen=True)
class Sizes:
    """What decides a block's cost: of the model, and of one micro batch."""

    tokens: int
    text_tokens: int
    samples: int
    width: int
    heads: int
    ffn: int
    bytes_each: int
    fp8: bool


@dataclass(frozen=True)
class Place:
    """One operator's output in a block: its bytes, and the seconds it takes to make it again."""

    name: str
    size: int
    seconds: float

    @property
    def worth(self) -> float:
        return self.seconds / self.size


@dataclass(frozen=True)
class Plan:
    """The places each block keeps, and their bytes over all blocks."""

    kept: tuple[frozenset[str], ...]
    size: int
    seconds: float


def places(sizes: Sizes) -> list[Place]:
    """A block's places, those worth most a byte first."""
    video, text = sizes.samples * sizes.tokens, sizes.samples * sizes.text_tokens
    found = [
        _linear("attn1.to_q", video, sizes.width, sizes),
        _linear("attn1.to_k", video, sizes.width, sizes),
        _linear("attn1.to_v", video, sizes.width, sizes),
        _attention("attn1.attention", sizes.tokens, sizes),
        _linear("attn1.to_out.0", video, sizes.width, sizes),
        _linear("attn2.to_q", video, sizes.width, sizes),
        _linear("attn2.to_k", text, sizes.width, sizes),
        _linear("attn2.to_v", text, sizes.width, sizes),
        _attention("attn2.attention", sizes.text_tokens, sizes),
        _linear("attn2.to_out.0", video, sizes.width, sizes),
        _linear("ffn.net.0.proj", video, sizes.ffn, sizes),
    ]
    return sorted(found, key=lambda place: (-place.worth, place.name))


def _linear(name: str, tokens: int, outputs: int, sizes: Sizes) -> Place:
    """A layer from the model's width, with its adapter: the output is written twice, read once."""
    size = tokens * outputs * sizes.bytes_each
    rate = _MATMUL_FP8 if sizes.fp8 else _MATMUL
    product = 2 * tokens * sizes.width * outputs / rate
    return Place(name, size, product + 3 * size / _MEMORY)


def _attention(name: str, keys: int, sizes: Sizes) -> Place:
    tokens = sizes.samples * sizes.tokens
    size = tokens * (sizes.width * sizes.bytes_each + sizes.heads * _STATISTICS_BYTES)
    return Place(name, size, 4 * tokens * keys * sizes.width / _ATTENTION + size / _MEMORY)


def choose(offered: Sequence[Place], blocks: int, budget: float) -> Plan:
    """Fill ``budget`` bytes, place after place and each over as many blocks as it fits.

    So at most one place is kept by some blocks and not by others, and a compiled block comes in at
    most two kinds.
    """
    kept: list[set[str]] = [set() for _ in range(blocks)]
    size, seconds = 0, 0.0
    for place in offered:
        count = int(max(0.0, min(blocks, (budget - size) / place.size)))
        for block in kept[:count]:
            block.add(place.name)
        size += count * place.size
        seconds += count * place.seconds
        if count < blocks:
            break
    return Plan(tuple(frozenset(names) for names in kept), size, seconds)


def all_bytes(offered: Sequence[Place]) -> int:
    """What one block makes when nothing of it was kept."""
    return sum(place.size for place in offered)
