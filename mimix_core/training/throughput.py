"""Measure throughput: FLOPs of a training step, and the device's peak FLOP/s and memory."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mimix_core.wan.token_routing import count_processed_tokens, middle_blocks

if TYPE_CHECKING:
    import torch

    from mimix_core.wan.model_registry import Backbone

TEXT_TOKENS = 512

PEAK_BF16_FLOPS = (
    ("H100 PCIe", 756e12),
    ("H100", 989.4e12),
    ("H200", 989.4e12),
    ("B200", 2250e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("RTX 4090", 165.2e12),
)
"""Dense bf16 FLOP/s by substring of the device name, from NVIDIA's data sheets; first match."""


@dataclass(frozen=True)
class LinearLayer:
    """A kind of linear layer of the transformer: ``count`` layers of inputs x outputs.

    ``tokens``: the tokens it is applied to. ``passes_gradient``: whether trained layers precede it,
    so that gradients pass through it.
    """

    name: str
    inputs: int
    outputs: int
    tokens: Literal["video", "text", "one"]
    count: int = 1
    passes_gradient: bool = True


def linear_layers(config: Mapping[str, Any]) -> Iterator[LinearLayer]:
    """List the linear layers of a ``WanTransformer3DModel`` by diffusers' names."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    patch = math.prod(config["patch_size"])
    yield from _block_layers(config, config["num_layers"])
    yield LinearLayer("proj_out", width, config["out_channels"] * patch, "video")
    first = "condition_embedder"
    for name, inputs, outputs, tokens in (
        ("patch_embedding", config["in_channels"] * patch, width, "video"),
        (f"{first}.text_embedder.linear_1", config["text_dim"], width, "text"),
        (f"{first}.text_embedder.linear_2", width, width, "text"),
        (f"{first}.time_embedder.linear_1", config["freq_dim"], width, "one"),
        (f"{first}.time_embedder.linear_2", width, width, "one"),
        (f"{first}.time_proj", width, 6 * width, "one"),
    ):
        yield LinearLayer(name, inputs, outputs, tokens, passes_gradient=False)  # type: ignore[arg-type]


def _block_layers(config: Mapping[str, Any], layers: int) -> Iterator[LinearLayer]:
    """List the linear layers in ``layers`` blocks."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    hidden = config["ffn_dim"]
    for name in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"):
        yield LinearLayer(name, width, width, "video", layers)
    for name in ("attn2.to_q", "attn2.to_out.0"):
        yield LinearLayer(name, width, width, "video", layers)
    for name in ("attn2.to_k", "attn2.to_v"):
        yield LinearLayer(name, width, width, "text", layers, passes_gradient=False)
    yield LinearLayer("ffn.net.0.proj", width, hidden, "video", layers)
    yield LinearLayer("ffn.net.2", hidden, width, "video", layers)


def has_known_flops(backbone: Backbone) -> bool:
    """Return whether tokens and FLOPs can be counted: only for Wan's transformer."""
    return backbone.transformer.class_name == "WanTransformer3DModel"


def count_video_tokens(config: Mapping[str, Any], latents_CTHW: Sequence[int]) -> int:
    """Count the tokens of a sample with latents of this shape."""
    _, *sides = latents_CTHW
    patch: Sequence[int] = config["patch_size"]
    return math.prod(side // length for side, length in zip(sides, patch, strict=True))


def count_sample_flops(
    config: Mapping[str, Any],
    latents_CTHW: Sequence[int],
    *,
    rank: int,
    targets: Sequence[str],
    text_tokens: int = TEXT_TOKENS,
    routed: float = 0.0,
) -> float:
    """Count the model FLOPs of one sample's forward and backward pass, without recomputation.

    ``routed``: the share of tokens that skips the middle blocks. A multiply-add counts as
    two. In the backward pass a frozen layer costs its forward pass once more (gradient of its
    input, none of its weight), adapters and attention twice more. The text has no gradient.
    """
    video = count_video_tokens(config, latents_CTHW)
    total = _count_flops(
        linear_layers(config), config, video, text_tokens, config["num_layers"], rank, targets
    )
    if routed > 0:
        middle = len(middle_blocks(config["num_layers"]))
        for tokens, sign in ((video, -1), (count_processed_tokens(video, routed), 1)):
            layers = _block_layers(config, middle)
            total += sign * _count_flops(layers, config, tokens, text_tokens, middle, rank, targets)
    return total


def _count_flops(
    layers: Iterable[LinearLayer],
    config: Mapping[str, Any],
    video_tokens: int,
    text_tokens: int,
    blocks: int,
    rank: int,
    targets: Sequence[str],
) -> float:
    """Count the model FLOPs of linear layers, and of attention in so many blocks."""
    tokens = {"video": video_tokens, "text": text_tokens, "one": 1}
    width = config["num_attention_heads"] * config["attention_head_dim"]
    # Scores and weighted sum, of self-attention and of cross-attention to the text.
    pairs = tokens["video"] * (tokens["video"] + tokens["text"])
    total: float = 3 * 4 * pairs * width * blocks
    for layer in layers:
        factor = 2 * tokens[layer.tokens] * layer.count
        # The forward pass, and the gradient of the layer's input where it is needed.
        passes = 2 if layer.passes_gradient else 1
        total += passes * factor * layer.inputs * layer.outputs
        if any(layer.name == target or layer.name.endswith(f".{target}") for target in targets):
            total += factor * rank * ((passes + 1) * layer.inputs + 3 * layer.outputs)
    return total


def peak_flops(device: torch.device) -> float | None:
    """Return the device's dense bf16 FLOP/s; None if unknown."""
    import torch

    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_BF16_FLOPS if part in name), None)


def peak_memory_gb(device: torch.device) -> float:
    """Return this process's peak memory so far: on the GPU, or of the machine."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
