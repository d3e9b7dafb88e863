"""Plan how several processes, one on each GPU, share the computation of one video.

The two passes of classifier-free guidance are independent until each step's end, so an even number
of processes first shares those. What remains is shared by tokens (``sequence_parallel``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mimix_core.errors import BadInput
from mimix_core.settings import SampleSettings
from mimix_core.wan.model_registry import Backbone

_SPLIT_BY_TOKENS = "WanTransformer3DModel"


@dataclass(frozen=True)
class VideoSplit:
    """Split of one video: ``branches`` of guidance, each of which ``shards`` processes compute.

    With one branch, each process computes its tokens of both passes.
    """

    branches: int = 1
    shards: int = 1

    @property
    def processes(self) -> int:
        return self.branches * self.shards


def plan_split(settings: SampleSettings, backbone: Backbone) -> VideoSplit:
    """Plan the split of a video over ``settings.gpus_per_video`` processes.

    Raises BadInput if the backbone's tokens or heads cannot be shared by so many, and for a step
    cache with tokens that are shared: each process would decide for itself what to reuse.
    """
    count = settings.gpus_per_video
    guided = settings.guidance_scale > 1 and not settings.batched_guidance
    branches = 2 if guided and count % 2 == 0 else 1
    split = VideoSplit(branches, count // branches)
    if split.shards > 1 and settings.step_cache is not None:
        raise BadInput(
            "a step cache does not work with tokens that several GPUs share",
            where="settings, keys samples.step_cache and samples.gpus_per_video",
            fix="Leave out step_cache, or set gpus_per_video to 2 with guidance, or to 1.",
        )
    problem = _shard_error(settings, backbone, split.shards)
    if problem is not None:
        raise BadInput(
            problem,
            where="settings, key samples.gpus_per_video",
            fix="Set it to 1, or to 2 with guidance, where nothing else has to be divisible.",
        )
    return split


def _shard_error(settings: SampleSettings, backbone: Backbone, shards: int) -> str | None:
    """Explain why the tokens cannot be split; None if they can, or need not be."""
    if shards == 1:
        return None
    if backbone.transformer.class_name != _SPLIT_BY_TOKENS:
        return f"a video of {backbone.name} cannot be split by tokens"
    heads = int(backbone.transformer.config["num_attention_heads"])
    tokens = _count_tokens(settings, backbone)
    for name, number in (("attention heads", heads), ("tokens of a video", tokens)):
        if number % shards:
            return f"{number} {name} cannot be split into {shards} equal parts"
    return None


def _count_tokens(settings: SampleSettings, backbone: Backbone) -> int:
    in_time, rows, columns = backbone.vae_stride
    latents = (settings.num_frames - 1) // in_time + 1
    latents *= (settings.height // rows) * (settings.width // columns)
    return latents // math.prod(backbone.patch)
