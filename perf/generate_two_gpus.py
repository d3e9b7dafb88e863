"""Time a denoising step of the 14B on one GPU and on two, which share guidance or the tokens."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perf.generate_steps import Passes, accelerated
from perf.generate_timing import Measurements, seconds_of

STEPS = 50
TIMES = 2


def measure_two_gpus(measurements: Measurements) -> None:
    """Measure in two processes, each with the whole model on its own GPU; the first one records."""
    from torch.multiprocessing.spawn import start_processes

    with tempfile.TemporaryDirectory() as folder:
        rendezvous = Path(folder) / "rendezvous"
        start_processes(_measure, args=(rendezvous, measurements.path.parent), nprocs=2)


def _measure(rank: int, rendezvous: Path, out: Path) -> None:
    import torch
    from torch import distributed

    from mimix_core.wan.generation.sequence_parallel import split_sequence
    from mimix_core.wan.generation.video_process import VideoProcess, join_processes
    from mimix_core.wan.generation.video_split import VideoSplit

    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    process = join_processes(rank, VideoSplit(branches=2), device, rendezvous)
    measurements = Measurements(out)

    def record(name: str, value: Any) -> None:
        if rank == 0:
            measurements.record("two_gpus", name, value)

    last: list[torch.Tensor] = []

    def remember(work: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            last[:] = [work()]

        return run

    def difference(wanted: torch.Tensor) -> float:
        return float((last[0] - wanted).float().norm() / wanted.float().norm())

    passes = accelerated(Passes.create(str(device)))
    # Both compile; then the other GPU has nothing to do.
    wanted = passes.two_passes()
    distributed.barrier()
    if rank == 0:
        record("one", seconds_of(passes.two_passes, 1))
    distributed.barrier()
    record("guidance", seconds_of(remember(lambda: passes.shared(process)), TIMES))
    record("guidance_difference", difference(wanted))
    split_sequence(
        passes.model,
        VideoProcess(rank, VideoSplit(shards=2), sequence_group=distributed.new_group([0, 1])),
    )
    record("tokens", seconds_of(remember(passes.two_passes), TIMES))
    record("tokens_difference", difference(wanted))
    distributed.barrier()
    if rank == 0:
        del passes
        _record_efficiency(measurements)
    distributed.destroy_process_group()


def _record_efficiency(measurements: Measurements) -> None:
    """Compare whole videos: one GPU decodes in either case."""
    import torch

    from mimix_core.wan.generation import sampling
    from perf.generate import random_vae
    from perf.train_models import LATENTS

    vae, latents_BCTHW = random_vae(), torch.randn(1, *LATENTS, device="cuda")
    decoding = seconds_of(lambda: sampling.decode_latents(vae, latents_BCTHW), 1)
    measurements.record("two_gpus", "decoding", decoding)
    found = measurements.parts["two_gpus"]

    def video(way: str) -> float:
        return STEPS * float(found[way]["seconds"]) + float(decoding["seconds"])

    for way in ("guidance", "tokens"):
        efficiency = video("one") / (2 * video(way))
        measurements.record("two_gpus", f"{way}_efficiency", efficiency)
