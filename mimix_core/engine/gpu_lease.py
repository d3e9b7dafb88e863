"""Which device a unit computes on: with several GPUs each unit at work has one to itself.

Units run in processes of their own, ``run.workers`` at a time, of one run or of several. The first
free GPU is leased by a lock that the system gives back however the process ends. A unit that finds
none waits: two VAEs on one GPU are no faster than one after the other, and may not fit.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mimix_core.errors import Transient

if TYPE_CHECKING:
    import torch

_POLL_SECONDS = 0.2


@contextmanager
def leased(asked: Literal["auto", "cpu", "cuda"]) -> Iterator[torch.device]:
    """The CPU, or a GPU that no other unit of this machine has meanwhile.

    Its memory is given back afterwards, for the unit of another process that comes next. Raises
    BadInput when a GPU is asked for and there is none, Transient when its memory is not enough now.
    """
    import torch

    from mimix_core.engine.torch_runtime import pick_device

    device = pick_device(asked)
    if device.type == "cpu":
        yield device
        return
    names = [
        str(torch.cuda.get_device_properties(index).uuid)
        for index in range(torch.cuda.device_count())
    ]
    with lease(names, lease_folder()) as index:
        torch.cuda.set_device(index)
        try:
            yield torch.device("cuda", index)
        except torch.OutOfMemoryError as error:
            raise Transient(f"GPU {index} has no memory left: {error}") from error
        finally:
            torch.cuda.empty_cache()


def lease_folder() -> Path:
    """Where the locks of this machine's devices lie; one folder a user."""
    return Path(tempfile.gettempdir()) / f"mimix-devices-{os.getuid()}"


@contextmanager
def lease(names: Sequence[str], folder: Path) -> Iterator[int]:
    """The index of a free device, held meanwhile; waits for one when all are taken.

    ``names``: what tells the devices apart on this machine, in any process.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        for index, name in enumerate(names):
            with (folder / f"{name}.lock").open("a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield index
                return
        time.sleep(_POLL_SECONDS)
