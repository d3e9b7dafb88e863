"""Place a transformer for its training: on the GPU, or block by block as an offload plan says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from mimix_core.engine.gpu_memory import usable_memory
from mimix_core.engine.main_memory import available_main_memory
from mimix_core.settings import LoraSettings
from mimix_core.wan import lora
from mimix_core.wan.fast import layers
from mimix_core.wan.fast.activation_budget import BlockShape
from mimix_core.wan.fast.attention import AttentionKernel
from mimix_core.wan.fast.offload import BlockWeights, StreamedBlocks, stream_block
from mimix_core.wan.fast.offload_plan import OffloadPlan, estimate_training, plan_offload
from mimix_core.wan.text_embeddings import TEXT_TOKENS

_GB = 1e9
# The rest is for the other processes and the page cache.
_SHARE_OF_MAIN_MEMORY = 0.5


def plan_training(
    transformer: Any,
    settings: LoraSettings,
    device: torch.device,
    latents_CTHW: Sequence[int] | None,
) -> OffloadPlan:
    """Plan what of ``transformer``, which is in main memory or on ``device``, is offloaded.

    On a CPU, where nothing is to be gained, only what the settings name.
    """
    blocks, requested = len(transformer.blocks), settings.offload_blocks
    if latents_CTHW is None or device.type != "cuda":
        return OffloadPlan(0 if requested == "auto" else min(requested, blocks))
    config = transformer.config
    shape = BlockShape(
        tokens=math.prod(latents_CTHW[1:]) // math.prod(config.patch_size),
        text_tokens=TEXT_TOKENS,
        samples=settings.micro_batch_size,
        width=config.num_attention_heads * config.attention_head_dim,
        heads=config.num_attention_heads,
        ffn_width=config.ffn_dim,
        element_bytes=4 if settings.precision == "fp32" else 2,
        fp8=settings.fp8,
    )
    frozen = dict(transformer.blocks.named_parameters())
    matrices = [w for w in frozen.values() if w.ndim == 2 and not w.requires_grad]
    adapter_bytes = sum(4 * weight.numel() for _, weight in lora.adapter_parameters(transformer))
    whole = sum(w.nbytes for w in transformer.parameters() if not w.requires_grad)
    usable, total = usable_memory(device)
    memory = estimate_training(
        shape,
        settings,
        blocks=blocks,
        block_parameters=sum(weight.numel() for weight in matrices) // blocks,
        other_bytes=whole - sum(weight.nbytes for weight in matrices),
        adapter_bytes=adapter_bytes,
        gpu_bytes=total,
    )
    already = sum(w.nbytes for w in transformer.parameters() if w.device.type == device.type)
    return plan_offload(memory, usable + already, requested)


def activation_memory(settings: LoraSettings, device: torch.device) -> float:
    """Return the bytes of main memory in which this process may let activations wait."""
    if settings.offload_activations_gb != "auto":
        return settings.offload_activations_gb * _GB
    if device.type != "cuda":
        return 0.0
    return _SHARE_OF_MAIN_MEMORY * available_main_memory() / settings.num_processes


def place_streamed(
    transformer: Any,
    settings: LoraSettings,
    device: torch.device,
    plan: OffloadPlan,
    kernel: AttentionKernel | None,
) -> StreamedBlocks:
    """Move a transformer to ``device`` with its blocks stored as ``plan`` and ``settings`` say.

    The GPU has one block more than in the end at any time.
    """
    for name, child in transformer.named_children():
        if name != "blocks":
            child.to(device)
    for tensor in (*transformer.parameters(recurse=False), *transformer.buffers(recurse=False)):
        tensor.data = tensor.data.to(device)
    count = len(transformer.blocks)
    weights = BlockWeights(device, settings.frozen_weights, count, plan.offloaded(count))
    streamed = StreamedBlocks(weights, plan.inputs, count)
    for index, block in enumerate(transformer.blocks):
        block.to(device)
        layers.replace_layers(block, kernel, settings.fp8)
        weights.add(block)
        stream_block(block, index, streamed)
    return streamed
