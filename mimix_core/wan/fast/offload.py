"""Keep frozen blocks and their inputs in main memory, and copy them while other blocks compute.

The blocks' weights pass through two slots on the GPU: while a block computes in one, the next block
is copied into the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mimix_core.wan.fast.fused_block import FusedBlock
from mimix_core.wan.fast.host_memory import (
    ALIGNMENT,
    CopyStream,
    HostTensors,
    HostUse,
    host_buffers,
)
from mimix_core.wan.fast.layers import FrozenLinear
from mimix_core.wan.fast.weight_storage import FrozenWeights, expand_weight, pack_weight

_SLOTS = 2
_USE = HostUse("blocks", "lora.offload_blocks, or set lora.frozen_weights to int8 or nf4")


@dataclass(frozen=True)
class _Part:
    """Where a stored tensor is in a block's buffer."""

    offset: int
    shape: torch.Size
    dtype: torch.dtype

    def view(self, buffer: torch.Tensor) -> torch.Tensor:
        size = math.prod(self.shape) * self.dtype.itemsize
        return buffer[self.offset : self.offset + size].view(self.dtype).view(self.shape)


def _layout(tensors: Sequence[torch.Tensor]) -> tuple[list[_Part], int]:
    """Place tensors one after the other; return the places and the buffer's size in bytes."""
    parts, offset = [], 0
    for tensor in tensors:
        parts.append(_Part(offset, tensor.shape, tensor.dtype))
        offset += math.ceil(tensor.nbytes / ALIGNMENT) * ALIGNMENT
    return parts, offset


class BlockWeights:
    """The frozen weights of all blocks: on the device, in main memory, or in a narrower format.

    State: which block is in each slot, and which one is expanded. A block's parameters keep their
    shapes, but are its weights only after ``load``.
    """

    def __init__(
        self, device: torch.device, storage: FrozenWeights, blocks: int, offloaded: frozenset[int]
    ) -> None:
        self.device, self._storage = device, storage
        self._blocks, self._offloaded = blocks, offloaded
        self._layers: list[list[FrozenLinear]] = []
        # Of a block: its buffer; None: its weights stay where they are.
        self._stored: list[torch.Tensor | None] = []
        self._parts: list[tuple[_Part, ...]] = []
        self._host: list[torch.Tensor] = []
        self._slots: list[torch.Tensor] = []
        self._in_slot: list[int | None] = [None] * _SLOTS
        self._copied: list[torch.cuda.Event | None] = [None] * _SLOTS
        self._expanded: int | None = None
        self._stream = CopyStream(device)

    @torch.no_grad()
    def add(self, block: nn.Module) -> None:
        """Take over the next block, whose layers are replaced and on the device."""
        layers = [layer for layer in block.modules() if isinstance(layer, FrozenLinear)]
        index = len(self._layers)
        self._layers.append(layers)
        if self._storage == "full" and index not in self._offloaded:
            self._stored.append(None)
            return
        packed = [pack_weight(layer.weight.detach(), self._storage) for layer in layers]
        if not self._parts:
            self._allocate(layers, packed)
        buffer = (
            self._host.pop()
            if index in self._offloaded
            else torch.empty(self._size, dtype=torch.uint8, device=self.device)
        )
        for parts, tensors in zip(self._parts, packed, strict=True):
            for part, tensor in zip(parts, tensors, strict=True):
                part.view(buffer).copy_(tensor)
        self._stored.append(buffer)
        self._point(index, 0)

    def _allocate(
        self, layers: Sequence[FrozenLinear], packed: Sequence[tuple[torch.Tensor, ...]]
    ) -> None:
        flat, self._size = _layout([tensor for tensors in packed for tensor in tensors])
        rest = iter(flat)
        self._parts = [tuple(next(rest) for _ in tensors) for tensors in packed]

        def on_device(size: int) -> torch.Tensor:
            return torch.empty(size, dtype=torch.uint8, device=self.device)

        if self._offloaded:
            self._host = host_buffers(len(self._offloaded), self._size, self.device, _USE)
            self._slots = [on_device(self._size) for _ in range(_SLOTS)]
        if self._storage == "full":
            expanded, homes = [parts[0] for parts in self._parts], self._slots
        else:
            expanded, size = _layout([layer.weight for layer in layers])
            homes = [on_device(size)]
        # Of each home of usable weights, one view for each layer.
        self._usable = [[part.view(home) for part in expanded] for home in homes]

    def _point(self, index: int, home: int) -> None:
        for layer, weight in zip(self._layers[index], self._usable[home], strict=True):
            layer.weight.data = weight

    @torch.no_grad()
    def load(self, index: int) -> None:
        """Make a block's weights those of its parameters, for what is queued from now on."""
        stored = self._stored[index]
        if stored is None:
            return
        slot = 0
        if index in self._offloaded:
            if index not in self._in_slot:
                self._copy(index, 0)
            slot = self._in_slot.index(index)
            self._stream.wait(self._copied[slot])
            stored = self._slots[slot]
        if self._storage == "full":
            self._point(index, slot)
        elif self._expanded != index:
            for parts, weight in zip(self._parts, self._usable[0], strict=True):
                tensors = tuple(part.view(stored) for part in parts)
                expand_weight(tensors, self._storage, weight)
            self._expanded = index

    @torch.no_grad()
    def prefetch(self, after: int, step: int) -> None:
        """Begin to copy the next offloaded block in direction ``step``, if there is one."""
        index = after + step
        while 0 <= index < self._blocks and index not in self._offloaded:
            index += step
        if 0 <= index < self._blocks and index not in self._in_slot:
            self._copy(index, 1 if self._in_slot[0] == after else 0)

    def _copy(self, index: int, slot: int) -> None:
        stored = self._stored[index]
        assert stored is not None
        self._in_slot[slot] = index
        self._copied[slot] = self._stream.copy(self._slots[slot], stored)


class StreamedBlocks:
    """Run blocks whose weights or inputs are not where they are used."""

    def __init__(self, weights: BlockWeights, inputs: bool, blocks: int) -> None:
        """``inputs``: those of the blocks, which recomputation begins with, wait as well."""
        self._weights, self._blocks = weights, blocks
        self._inputs = HostTensors(weights.device, _USE) if inputs else None

    def load(self, index: int) -> None:
        """Make a block usable in a pass forward."""
        self._weights.load(index)
        self._weights.prefetch(index, 1)

    def run(
        self, index: int, block: Callable[[torch.Tensor], torch.Tensor], hidden_BLD: torch.Tensor
    ) -> torch.Tensor:
        """Run a block forward, and prepare its backward pass, which recomputes it."""
        self.load(index)
        if index == 0 and self._inputs is not None:
            self._inputs.begin_pass()
        # The backward pass begins with the last blocks at once.
        inputs = self._inputs if index < self._blocks - _SLOTS else None
        if inputs is not None:
            inputs.save(index, hidden_BLD)
        out_BLD = block(hidden_BLD)
        if inputs is not None:
            inputs.release(index)
        if out_BLD.requires_grad:
            # The hook runs when the gradient of the output is there, before any of the block's.
            out_BLD.register_hook(  # type: ignore[no-untyped-call]
                lambda _: self._before_backward(index)
            )
        return out_BLD

    def _before_backward(self, index: int) -> None:
        self._weights.load(index)
        if self._inputs is not None:
            self._inputs.restore(index)
        self._weights.prefetch(index, -1)
        if self._inputs is not None:
            self._inputs.prefetch(index - 1)


def stream_block(block: nn.Module, index: int, streamed: StreamedBlocks) -> None:
    """Let a block load its weights itself in passes without gradients, in place."""
    block.__class__ = StreamedBlock
    block.block_index, block.streamed = index, streamed  # type: ignore[assignment]


class StreamedBlock(FusedBlock):
    """A block that loads its weights; with gradients, ``StreamedBlocks.run`` loads them."""

    block_index: int
    streamed: StreamedBlocks

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            self.streamed.load(self.block_index)
        return super().forward(*inputs)
