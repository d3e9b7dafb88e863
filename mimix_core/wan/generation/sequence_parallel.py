"""Split a transformer's forward pass by tokens between processes; the result is whole in each.

The tokens are split after the patch embedding and gathered after the output projection. Only
self-attention needs all of them (``fast.all_to_all``). All other layers, and attention to the text,
work on each token by itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed

from mimix_core.errors import BadInput
from mimix_core.wan.fast.layers import AttentionProcessor, SequenceShards
from mimix_core.wan.generation.video_process import VideoProcess


def split_sequence(transformer: Any, process: VideoProcess) -> None:
    """Let ``transformer`` compute only its process's tokens, in place.

    ``transformer``: a WanTransformer3DModel whose attention is this package's
    (``video_generator.accelerate_inference``). Raises BadInput if it is not.
    """
    group, shards, shard = process.sequence_group, process.split.shards, process.shard
    assert group is not None
    for block in transformer.blocks:
        if not isinstance(block.attn1.processor, AttentionProcessor):
            raise BadInput(
                "a video cannot be split by tokens in fp32 on a GPU",
                where="settings, keys samples.gpus_per_video and samples.precision",
                fix="Set samples.precision to bf16, or samples.gpus_per_video to 1.",
            )
        block.attn1.processor.shards = SequenceShards(group.group_name, shards)

    def own(x: torch.Tensor, axis: int) -> torch.Tensor:
        return x.chunk(shards, dim=axis)[shard].contiguous()

    def split_timestep(_model: Any, args: Any, given: dict[str, Any]) -> Any:
        # Wan2.2-TI2V has a timestep of each token.
        if given["timestep"].ndim == 2:
            given["timestep"] = own(given["timestep"], 1)
        return args, given

    def gather(_layer: Any, _args: Any, out_BSC: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(out_BSC) for _ in range(shards)]
        distributed.all_gather(parts, out_BSC.contiguous(), group=group)
        return torch.cat(parts, dim=1)

    transformer.register_forward_pre_hook(split_timestep, with_kwargs=True)
    transformer.rope.register_forward_hook(lambda *call: tuple(own(x, 1) for x in call[-1]))
    # The model flattens the axes after the channels into tokens, of which there is one axis here.
    transformer.patch_embedding.register_forward_hook(lambda *call: own(call[-1].flatten(2), 2))
    transformer.proj_out.register_forward_hook(gather)
