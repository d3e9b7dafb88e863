"""Lease GPUs to units of work: each running unit has one GPU, or several, to itself.

Units run in separate processes, several at a time, of one run or of several. The first free GPU is
leased by a lock file that the kernel releases however the process ends. A unit that finds none
waits: two VAEs on one GPU are not faster than one after the other, and may not fit.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mimix_core.engine.locks import exclusive_lock, try_exclusive_lock
from mimix_core.errors import BadInput, Transient

if TYPE_CHECKING:
    import torch

_POLL_SECONDS = 0.2
_GATHERING_LOCK = "gathering.lock"


@contextmanager
def acquire_device(requested: Literal["auto", "cpu", "cuda"]) -> Iterator[torch.device]:
    """Acquire the CPU, or a GPU that no other unit on this machine uses at the same time.

    GPU memory is released afterwards for the next unit. Raises BadInput when a GPU is requested
    and none exists, Transient when the GPU runs out of memory.
    """
    import torch

    from mimix_core.engine.torch_runtime import select_device

    device = select_device(requested)
    if device.type == "cpu":
        yield device
        return
    with acquire_lock(_gpu_names(), lease_folder()) as index:
        torch.cuda.set_device(index)
        try:
            yield torch.device("cuda", index)
        except torch.OutOfMemoryError as error:
            raise Transient(f"GPU {index} is out of memory: {error}") from error
        finally:
            torch.cuda.empty_cache()


@contextmanager
def acquire_devices(
    requested: Literal["auto", "cpu", "cuda"], count: int
) -> Iterator[list[torch.device]]:
    """Acquire ``count`` GPUs of this machine; on a CPU, the CPU as often.

    Raises BadInput when this machine has fewer.
    """
    import torch

    from mimix_core.engine.torch_runtime import select_device

    device = select_device(requested)
    if device.type == "cpu":
        yield [device] * count
        return
    names = _gpu_names()
    if len(names) < count:
        raise BadInput(
            f"{count} GPUs are needed at the same time, and this machine has {len(names)}",
            where="settings, key gpus_per_video",
            fix=f"Set it to {len(names)} or less.",
        )
    with acquire_locks(names, lease_folder(), count) as indices:
        yield [torch.device("cuda", index) for index in indices]


def _gpu_names() -> list[str]:
    """Return what identifies each visible GPU on this machine, the same in every process."""
    import torch

    return [
        str(torch.cuda.get_device_properties(index).uuid)
        for index in range(torch.cuda.device_count())
    ]


def lease_folder() -> Path:
    """Return the folder of this machine's device locks, one per user."""
    return Path(tempfile.gettempdir()) / f"mimix-devices-{os.getuid()}"


@contextmanager
def acquire_lock(names: Sequence[str], folder: Path) -> Iterator[int]:
    """Lock a free device, waiting until there is one, and yield its index.

    ``names`` identify the devices on this machine, the same in every process.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        for index, name in enumerate(names):
            lock = try_exclusive_lock(folder / f"{name}.lock")
            if lock is not None:
                with lock:
                    yield index
                return
        time.sleep(_POLL_SECONDS)


@contextmanager
def acquire_locks(names: Sequence[str], folder: Path, count: int) -> Iterator[list[int]]:
    """Lock ``count`` devices, waiting until as many are free, and yield their indices, ascending.

    Only one process at a time gathers several devices, and it keeps those that it has while it
    waits for more: two processes never wait for each other's devices, and units of one device
    cannot always be faster.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        indices: set[int] = set()
        with exclusive_lock(folder / _GATHERING_LOCK):
            while True:
                for index, name in enumerate(names):
                    if index in indices or len(indices) == count:
                        continue
                    lock = try_exclusive_lock(folder / f"{name}.lock")
                    if lock is not None:
                        held.enter_context(lock)
                        indices.add(index)
                if len(indices) == count:
                    break
                time.sleep(_POLL_SECONDS)
        yield sorted(indices)
