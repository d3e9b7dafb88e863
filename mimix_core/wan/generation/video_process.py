"""Join the processes that generate one video together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed

from mimix_core.wan.generation.video_split import VideoSplit


@dataclass(frozen=True)
class VideoProcess:
    """One of the processes of a video.

    ``branch``: which pass of guidance it computes, 0 for the prompt's and 1 for the negative
    prompt's. ``shard``: which part of the tokens. ``guidance_group``: the two processes with the
    same tokens; ``sequence_group``: those with the same pass. None where nothing is shared.
    """

    rank: int
    split: VideoSplit
    guidance_group: distributed.ProcessGroup | None = None
    sequence_group: distributed.ProcessGroup | None = None

    @property
    def branch(self) -> int:
        return self.rank // self.split.shards

    @property
    def shard(self) -> int:
        return self.rank % self.split.shards


def join_processes(
    rank: int, split: VideoSplit, device: torch.device, rendezvous: Path
) -> VideoProcess:
    """Initialize ``torch.distributed`` through a file, which needs no port and no network."""
    on_gpu = device.type == "cuda"
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=split.processes,
        device_id=device if on_gpu else None,
    )
    ranks = torch.arange(split.processes).view(split.branches, split.shards)
    own: dict[str, distributed.ProcessGroup] = {}
    # Every process creates every group, in the same order.
    for name, size, groups in (
        ("guidance_group", split.branches, ranks.T.tolist()),
        ("sequence_group", split.shards, ranks.tolist()),
    ):
        for members in groups if size > 1 else ():
            group = distributed.new_group(members)
            if rank in members:
                own[name] = group
    return VideoProcess(rank, split, **own)
