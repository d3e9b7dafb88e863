"""Ask how much memory of a GPU this process can use."""

from __future__ import annotations

import torch


def usable_memory(device: torch.device) -> tuple[int, int]:
    """Return the bytes of a GPU that this process can still allocate, and those it may use in all.

    What PyTorch has cached counts as free. A limit by ``set_per_process_memory_fraction`` counts
    as the size of the GPU.
    """
    free, total = torch.cuda.mem_get_info(device)
    index = torch.cuda.current_device() if device.index is None else device.index
    limit = int(total * torch.cuda.get_per_process_memory_fraction(index))
    reserved = torch.cuda.memory_reserved(device)
    available = min(free, limit - reserved) + reserved - torch.cuda.memory_allocated(device)
    return available, limit
