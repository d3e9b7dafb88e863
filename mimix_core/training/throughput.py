"""How much work a training step is, and how much of it the device could have done in that time."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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
"""Dense bf16 FLOP/s by a part of the device's name, from NVIDIA's data sheets; first match."""


@dataclass(frozen=True)
class LinearLayer:
    """A kind of linear layer of the transformer: ``count`` of them, each of inputs x outputs.

    ``tokens``: what it sees. Gradients pass back through it when what is before it is trained.
    """

    name: str
    inputs: int
    outputs: int
    tokens: Literal["video", "text", "one"]
    count: int = 1
    passes_gradient: bool = True


def linear_layers(config: Mapping[str, Any]) -> Iterator[LinearLayer]:
    """The linear layers of a ``WanTransformer3DModel`` with this config, names as diffusers'."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    layers, hidden = config["num_layers"], config["ffn_dim"]
    patch = math.prod(config["patch_size"])
    for name in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"):
        yield LinearLayer(name, width, width, "video", layers)
    for name in ("attn2.to_q", "attn2.to_out.0"):
        yield LinearLayer(name, width, width, "video", layers)
    for name in ("attn2.to_k", "attn2.to_v"):
        yield LinearLayer(name, width, width, "text", layers, passes_gradient=False)
    yield LinearLayer("ffn.net.0.proj", width, hidden, "video", layers)
    yield LinearLayer("ffn.net.2", hidden, width, "video", layers)
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


def has_known_flops(backbone: Backbone) -> bool:
    """Whether its tokens and FLOPs are known: those here are of Wan's transformer."""
    return backbone.transformer.class_name == "WanTransformer3DModel"


def count_video_tokens(config: Mapping[str, Any], latents_CTHW: Sequence[int]) -> int:
    """Tokens of a sample whose latents have this shape."""
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
) -> float:
    """Model FLOPs of one sample's forward and backward pass, nothing recomputed.

    A multiply and an add are two. A frozen layer costs its forward once more in the backward pass
    (the gradient of its input; there is none of its weight), an adapter and attention twice more;
    the text's gradient is not wanted.
    """
    tokens = {"video": count_video_tokens(config, latents_CTHW), "text": text_tokens, "one": 1}
    width = config["num_attention_heads"] * config["attention_head_dim"]
    # Scores and weighted sum, of video with video and of video with text.
    pairs = tokens["video"] * (tokens["video"] + tokens["text"])
    total: float = 3 * 4 * pairs * width * config["num_layers"]
    for layer in linear_layers(config):
        seen = 2 * tokens[layer.tokens] * layer.count
        # Passes over the layer's input: forward, and back where its gradient is wanted.
        passes = 2 if layer.passes_gradient else 1
        total += passes * seen * layer.inputs * layer.outputs
        if any(layer.name == target or layer.name.endswith(f".{target}") for target in targets):
            total += seen * rank * ((passes + 1) * layer.inputs + 3 * layer.outputs)
    return total


def peak_flops(device: torch.device) -> float | None:
    """The device's dense bf16 FLOP/s; None when it is not known."""
    import torch

    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_BF16_FLOPS if part in name), None)


def peak_memory_gb(device: torch.device) -> float:
    """The most memory this process has held so far: of the GPU, or of the machine."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
