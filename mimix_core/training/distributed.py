"""Set up distributed training and communicate between its processes."""

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
    """Rank and world size of this process, its device and compute dtype."""

    rank: int
    world_size: int
    device: torch.device
    dtype: torch.dtype
    # Gloo group for CPU tensors, which needs no GPU synchronization; None for a single process.
    cpu_group: Any = None


def init_distributed(job: TrainingJob) -> DistributedContext:
    """Initialize the process group through a file, which needs no port and no network."""
    settings = job.settings
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = select_device(settings.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    else:
        set_num_threads(settings.threads)
        torch.use_deterministic_algorithms(True)
        # Only useful to find reads of uninitialized memory, and slow.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # DeepSpeed's shared-memory all-reduce is for tensor-parallel inference only. Its first use on a
    # CPU would compile C++ for a minute, and fail without a compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend="nccl" if device.type == "cuda" else "gloo",
        auto_mpi_discovery=False,
        init_method=f"file://{job.rendezvous}",
        rank=rank,
        world_size=world_size,
        verbose=False,
    )
    cpu_group = torch.distributed.new_group(backend="gloo") if world_size > 1 else None
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    return DistributedContext(rank, world_size, device, dtype, cpu_group)


def destroy_process_group() -> None:
    """Destroy the process group, after all processes are done."""
    torch.distributed.destroy_process_group()


def any_rank(flag: bool, context: DistributedContext) -> bool:
    """Return whether ``flag`` is set in any process, so that all processes stop together."""
    if context.world_size == 1:
        return flag
    total = torch.tensor(int(flag))
    torch.distributed.all_reduce(total, group=context.cpu_group)
    return bool(total.item())


def all_gather(values: torch.Tensor, context: DistributedContext) -> list[torch.Tensor]:
    """Gather ``values``, of equal shapes, from all processes in rank order, on the CPU."""
    own = values.cpu()
    if context.world_size == 1:
        return [own]
    gathered = [torch.empty_like(own) for _ in range(context.world_size)]
    torch.distributed.all_gather(gathered, own, group=context.cpu_group)
    return gathered


def seed_generators(seed: int, step: int, context: DistributedContext) -> None:
    """Seed PyTorch's global generators by step and rank.

    Training draws only from separately seeded generators. Should a layer use the global ones, it
    draws the same numbers in every attempt at a step, so checkpoints need no generator state.
    """
    torch.manual_seed(derive_seed(seed, "step", step, context.rank))
