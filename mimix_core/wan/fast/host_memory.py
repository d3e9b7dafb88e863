"""Pinned main memory for what waits there, and copies beside the computation of a GPU.

Copies run on CUDA streams of their own. A copy waits for all work that was queued before it, so it
never overwrites what is still read. On a CPU the same code copies at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from mimix_core.errors import StageFailed

ALIGNMENT = 256
"""Bytes; tensors begin at multiples of it in a buffer."""
# Of pinned memory that grows. PyTorch rounds pinned allocations up to powers of two, as this is.
_CHUNK = 1 << 28


class CopyStream:
    """Run copies beside the computation of a GPU; on a CPU at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> torch.cuda.Event | None:
        """Copy after all that was queued before; return the event that ``wait`` takes."""
        if self._stream is None:
            target.copy_(source)
            return None
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
            copied: torch.cuda.Event = self._stream.record_event()
            return copied

    def wait(self, copied: torch.cuda.Event | None) -> None:
        """Let what is queued from now on wait for a copy."""
        if copied is not None:
            torch.cuda.current_stream(self._device).wait_event(copied)


class HostUse(NamedTuple):
    """What main memory is for, and what lowers it, both in words of an error."""

    what: str
    lower: str


def host_buffers(
    count: int, num_bytes: int, device: torch.device, use: HostUse, held: int = 0
) -> list[torch.Tensor]:
    """Allocate ``count`` buffers of main memory, pinned for a GPU.

    PyTorch rounds pinned allocations up to powers of two; so each has as many buffers as fill one
    best. ``held``: bytes for the same use from earlier calls. Raises StageFailed if there is too
    little memory.
    """
    buffers: list[torch.Tensor] = []
    try:
        while len(buffers) < count:
            number = min(
                range(1, count - len(buffers) + 1),
                key=lambda n: (round(_rounded(n * num_bytes) / (n * num_bytes), 2), -n),
            )
            memory = torch.empty(
                number * num_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda"
            )
            buffers.extend(memory.view(number, num_bytes))
    except RuntimeError as error:
        raise StageFailed(
            f"{(held + count * num_bytes) / 1e9:.0f} GB of main memory for offloaded {use.what} "
            f"cannot be pinned: {error}. Lower {use.lower}"
        ) from error
    return buffers


def _rounded(num_bytes: int) -> int:
    return 1 << (num_bytes - 1).bit_length()


class _Waiting(NamedTuple):
    """A tensor's storage, its size on the device, and its bytes in main memory."""

    storage: torch.UntypedStorage
    num_bytes: int
    host: Sequence[torch.Tensor]


class HostTensors:
    """Tensors of a forward pass that wait in main memory until the backward pass needs them.

    A tensor stays what it is to autograd: only its storage is freed, and filled again. Main memory
    is allocated as a pass needs it, and kept for later passes. State: what waits of the present
    pass by the index of its block.
    """

    def __init__(self, device: torch.device, use: HostUse) -> None:
        self._device, self._use = device, use
        self._out, self._back = CopyStream(device), CopyStream(device)
        self._chunks: list[torch.Tensor] = []
        self._used = 0
        self._waiting: dict[int, list[_Waiting]] = {}
        self._copied: dict[int, torch.cuda.Event | None] = {}

    def begin_pass(self) -> None:
        """Forget what waits of an earlier pass, which had no backward pass."""
        self._waiting.clear()
        self._used = 0

    @torch.no_grad()
    def save(self, index: int, tensor: torch.Tensor) -> None:
        """Begin to copy a tensor of a block to main memory; it may be read meanwhile."""
        storage = tensor.untyped_storage()
        one = _Waiting(storage, storage.nbytes(), self._allocate(storage.nbytes()))
        self._waiting.setdefault(index, []).append(one)
        for host, part in _pairs(one):
            self._copied[index] = self._out.copy(host, part)

    def release(self, index: int) -> None:
        """Free the device's memory of a block's tensors, if it has any, after the copies."""
        if index not in self._waiting:
            return
        self._out.wait(self._copied[index])
        for one in self._waiting[index]:
            one.storage.resize_(0)

    @torch.no_grad()
    def prefetch(self, index: int) -> None:
        """Begin to copy a block's tensors back, those that were released."""
        for one in self._waiting.get(index, ()):
            if one.storage.nbytes():
                continue
            one.storage.resize_(one.num_bytes)
            for host, part in _pairs(one):
                self._copied[index] = self._back.copy(part, host)

    def restore(self, index: int) -> None:
        """Make a block's tensors usable for what is queued from now on, and keep them no longer."""
        self.prefetch(index)
        if self._waiting.pop(index, None) is not None:
            self._back.wait(self._copied[index])

    def _allocate(self, num_bytes: int) -> list[torch.Tensor]:
        """Return the next bytes of main memory, from one or more chunks."""
        start, end = self._used, self._used + num_bytes
        self._used = math.ceil(end / ALIGNMENT) * ALIGNMENT
        while len(self._chunks) * _CHUNK < end:
            held = len(self._chunks) * _CHUNK
            self._chunks += host_buffers(1, _CHUNK, self._device, self._use, held)
        parts = []
        while start < end:
            number, offset = divmod(start, _CHUNK)
            size = min(_CHUNK - offset, end - start)
            parts.append(self._chunks[number][offset : offset + size])
            start += size
        return parts


def _pairs(one: _Waiting) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pair the parts of a tensor's bytes in main memory with those on the device."""
    whole = torch.empty(0, dtype=torch.uint8, device=one.storage.device)
    whole.set_(one.storage, 0, (one.num_bytes,), (1,))
    start = 0
    for host in one.host:
        yield host, whole[start : start + host.numel()]
        start += host.numel()
