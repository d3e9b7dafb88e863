"""Where one training process stands among the others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
import torch.distributed

from mimix_core.engine.torch_runtime import derive_seed, select_device, set_num_threads
from mimix_core.training.worker_messages import TrainingJob


@dataclass(frozen=True)
class DistributedContext:
    """Which process this is, and where it computes."""

    rank: int
    world_size: int
    device: torch.device
    dtype: torch.dtype
    # For what the processes' CPUs agree on, without waiting for a GPU; None when there is only one.
    cpu_group: Any = None


def init_distributed(job: TrainingJob) -> DistributedContext:
    """Meet the other processes, by a file: no port to be taken, no network on one machine."""
    settings = job.settings
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = select_device(settings.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    else:
        set_num_threads(settings.threads)
        torch.use_deterministic_algorithms(True)
        # Filling memory that is about to be overwritten finds bugs, at a cost.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # DeepSpeed's shared-memory all-reduce serves tensor-parallel inference only. Left on, its first
    # use on a CPU compiles C++ for a minute, and fails where there is no compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend="nccl" if device.type == "cuda" else "gloo",
        auto_mpi_discovery=False,
        init_method=f"file://{job.rendezvous}",
        rank=rank,
        world_size=processes,
        verbose=False,
    )
    talk = torch.distributed.new_group(backend="gloo") if processes > 1 else None
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    return DistributedContext(rank, processes, device, dtype, talk)


def destroy_process_group() -> None:
    """Part from the other processes, when all are done."""
    torch.distributed.destroy_process_group()


def any_rank(stop: bool, context: DistributedContext) -> bool:
    """Whether any process was asked to stop: all must stop at the same point, or they hang."""
    if context.world_size == 1:
        return stop
    votes = torch.tensor(int(stop))
    torch.distributed.all_reduce(votes, group=context.cpu_group)
    return bool(votes.item())


def all_gather(values: torch.Tensor, context: DistributedContext) -> list[torch.Tensor]:
    """Each process's ``values`` (of one shape), in the order of the ranks, on the CPU."""
    mine = values.cpu()
    if context.world_size == 1:
        return [mine]
    found = [torch.empty_like(mine) for _ in range(context.world_size)]
    torch.distributed.all_gather(found, mine, group=context.cpu_group)
    return found


def seed_generators(seed: int, step: int, context: DistributedContext) -> None:
    """Set PyTorch's own generators by the step.

    All that training draws has a key of its own. Should a layer draw from the common generators,
    it does so alike in every attempt at this step: no generator's state has to be kept.
    """
    torch.manual_seed(derive_seed(seed, "step", step, context.rank))
