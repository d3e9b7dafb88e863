"""Generate the videos of a unit in several processes, each on its own GPU, all on one video.

They are children of the unit's process, which waits for them and ends all when one of them ends.
"""

from __future__ import annotations

import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimix_core.engine import progress
from mimix_core.errors import BadInput, MimixError, StageFailed, Transient
from mimix_core.wan.generation.video_split import VideoSplit
from mimix_core.wan.video_unit import VideoUnit
from mimix_core.wan.videos_inputs import load_adapters

if TYPE_CHECKING:
    import torch

_POLL_SECONDS = 0.2
# For the peers of a failed process, which wait for it in a collective call.
_FAILURE_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class _Result:
    """What the first process did: finished and failed prompts, and its execution choices."""

    done: dict[str, Path]
    failed: dict[str, str]
    runtime_stats: dict[str, str | int | float]


@dataclass
class _Received:
    """What the processes have sent so far."""

    result: _Result | None = None
    errors: list[MimixError] = field(default_factory=list)


def generate_together(unit: VideoUnit, split: VideoSplit) -> None:
    """Generate the unit's missing videos with ``split.processes`` processes.

    Raises the BadInput or Transient that one of them raises, and Transient when one is killed.
    """
    from mimix_core.engine.gpu_lease import acquire_devices

    unit.report_progress(0, f"waiting for {split.processes} free devices")
    with acquire_devices(unit.settings.device, split.processes) as devices:
        if split.shards > 1 and devices[0].type == "cuda" and unit.settings.precision == "fp32":
            raise BadInput(
                "a video cannot be split by tokens in fp32 on a GPU",
                where="settings, keys samples.gpus_per_video and samples.precision",
                fix="Set samples.precision to bf16, or samples.gpus_per_video to 1.",
            )
        result = _run_processes(unit, split, devices)
    unit.done |= result.done
    unit.failed |= result.failed
    unit.runtime_stats |= {
        **result.runtime_stats,
        "device": ", ".join(map(str, devices)),
        "guidance_branches": split.branches,
        "token_shards": split.shards,
    }


def _run_processes(unit: VideoUnit, split: VideoSplit, devices: list[torch.device]) -> _Result:
    from torch.multiprocessing import get_context
    from torch.multiprocessing.spawn import ProcessExitedException, start_processes

    received = _Received()
    with tempfile.TemporaryDirectory(prefix="mimix-videos-") as folder:
        messages = get_context("spawn").SimpleQueue()
        context = start_processes(  # type: ignore[no-untyped-call]
            _run_process,
            args=(unit, split, devices, Path(folder) / "rendezvous", messages),
            nprocs=split.processes,
            join=False,
        )
        try:
            while not context.join(_POLL_SECONDS, grace_period=_FAILURE_GRACE_SECONDS):
                _receive(messages, received)
        except ProcessExitedException as error:
            _receive(messages, received)
            if not received.errors:
                raise Transient(f"generating together failed: {error}") from error
        finally:
            for process in context.processes:
                process.kill()
                process.join()
        _receive(messages, received)
    if received.errors:
        raise received.errors[0]
    if received.result is None:
        raise StageFailed("the processes that generate together ended without a result")
    return received.result


def _receive(messages: Any, received: _Received) -> None:
    """Read the messages that have arrived: progress, errors and the result."""
    while not messages.empty():
        message = messages.get()
        if isinstance(message, MimixError):
            received.errors.append(message)
        elif isinstance(message, _Result):
            received.result = message
        else:
            progress.report_progress(*message)


def _run_process(
    rank: int,
    unit: VideoUnit,
    split: VideoSplit,
    devices: list[torch.device],
    rendezvous: Path,
    messages: Any,
) -> None:
    """Generate the unit's missing videos as one of the processes; the first sends the result."""
    # torch.multiprocessing sends SIGINT when the parent dies. Python's handler would wait for the
    # end of a collective call, which may never come.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    import torch
    from torch import distributed

    from mimix_core.wan.generation.video_process import join_processes

    device = devices[rank]
    if device.type == "cuda":
        torch.cuda.set_device(device)

    def send_progress(done: int, total: int, note: str) -> None:
        if rank == 0:
            messages.put((done, total, note))

    try:
        process = join_processes(rank, split, device, rendezvous)
        adapters, _ = load_adapters(unit.inputs, unit.settings)
        with progress.progress_listener(send_progress):
            unit.generate_on(device, adapters, process)
    except MimixError as error:
        messages.put(error)
        raise SystemExit(1) from error
    except torch.OutOfMemoryError as error:
        messages.put(Transient(f"{device} is out of memory: {error}"))
        raise SystemExit(1) from error
    if rank == 0:
        messages.put(_Result(unit.done, unit.failed, unit.runtime_stats))
    distributed.destroy_process_group()
