"""List the tensors of LTX-Video's transformer and VAE from their configs, without torch.

The names and shapes are those of diffusers' ``LTXVideoTransformer3DModel``, and of
``AutoencoderKLLTXVideo`` with the blocks of version 0.9.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import prod
from typing import Any

Shaped = Iterator[tuple[str, tuple[int, ...]]]
"""Names of tensors, each with its shape."""

# Sinusoids of a timestep, as everywhere in diffusers.
_FREQUENCIES = 256
_STRIDES = {"spatial": (1, 2, 2), "temporal": (2, 1, 1), "spatiotemporal": (2, 2, 2)}


def transformer(config: Mapping[str, Any]) -> Shaped:
    """List the tensors of ``LTXVideoTransformer3DModel``. Raises KeyError for a missing size."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    yield from _linear("proj_in", config["in_channels"], width)
    yield "scale_shift_table", (2, width)
    yield from _time_embedder("time_embed.emb", width)
    yield from _linear("time_embed.linear", width, 6 * width)
    yield from _linear("caption_projection.linear_1", config["caption_channels"], width)
    yield from _linear("caption_projection.linear_2", width, width)
    for number in range(config["num_layers"]):
        block = f"transformer_blocks.{number}"
        yield f"{block}.scale_shift_table", (6, width)
        for attention, source in (("attn1", width), ("attn2", config["cross_attention_dim"])):
            name = f"{block}.{attention}"
            yield f"{name}.norm_q.weight", (width,)
            yield f"{name}.norm_k.weight", (width,)
            yield from _linear(f"{name}.to_q", width, width)
            yield from _linear(f"{name}.to_k", source, width)
            yield from _linear(f"{name}.to_v", source, width)
            yield from _linear(f"{name}.to_out.0", width, width)
        yield from _linear(f"{block}.ff.net.0.proj", width, 4 * width)
        yield from _linear(f"{block}.ff.net.2", 4 * width, width)
    yield from _linear("proj_out", width, config["out_channels"])


def vae(config: Mapping[str, Any]) -> Shaped:
    """List the tensors of ``AutoencoderKLLTXVideo``. Raises KeyError for a missing size."""
    latents = config["latent_channels"]
    yield "latents_mean", (latents,)
    yield "latents_std", (latents,)
    yield from _encoder(config)
    yield from _decoder(config)


def _encoder(config: Mapping[str, Any]) -> Shaped:
    widths, depths = config["block_out_channels"], config["layers_per_block"]
    pixels = 3 * config["patch_size"] ** 2
    yield from _conv3d("encoder.conv_in", pixels, widths[0])
    for level, (inputs, outputs) in enumerate(pairwise(widths)):
        block = f"encoder.down_blocks.{level}"
        for layer in range(depths[level]):
            yield from _residual_block(f"{block}.resnets.{layer}", inputs)
        folded = prod(_STRIDES[config["downsample_type"][level]])
        yield from _conv3d(f"{block}.downsamplers.0.conv", inputs, outputs // folded)
    for layer in range(depths[-1]):
        yield from _residual_block(f"encoder.mid_block.resnets.{layer}", widths[-1])
    yield from _conv3d("encoder.conv_out", widths[-1], config["latent_channels"] + 1)


def _decoder(config: Mapping[str, Any]) -> Shaped:
    """List the decoder's tensors; the config has its levels from the last to the first."""
    widths = config["decoder_block_out_channels"][::-1]
    depths = config["decoder_layers_per_block"][::-1]
    factors, timed = config["upsample_factor"][::-1], config["timestep_conditioning"]
    width = widths[0]
    yield from _conv3d("decoder.conv_in", config["latent_channels"], width)
    yield from _timed_blocks("decoder.mid_block", width, depths[0], timed=timed)
    for level, (channels, factor) in enumerate(zip(widths, factors, strict=True)):
        width = channels // factor
        block = f"decoder.up_blocks.{level}"
        upsampled = width * factor
        outputs = upsampled * prod(_STRIDES["spatiotemporal"]) // factor
        yield from _conv3d(f"{block}.upsamplers.0.conv", upsampled, outputs)
        yield from _timed_blocks(block, width, depths[level + 1], timed=timed)
    yield from _conv3d("decoder.conv_out", width, 3 * config["patch_size"] ** 2)
    if timed:
        yield "decoder.timestep_scale_multiplier", ()
        yield from _time_embedder("decoder.time_embedder", 2 * width)
        yield "decoder.scale_shift_table", (2, width)


def _timed_blocks(name: str, width: int, count: int, *, timed: bool) -> Shaped:
    if timed:
        yield from _time_embedder(f"{name}.time_embedder", 4 * width)
    for layer in range(count):
        yield from _residual_block(f"{name}.resnets.{layer}", width)
        if timed:
            yield f"{name}.resnets.{layer}.scale_shift_table", (4, width)


def _time_embedder(name: str, width: int) -> Shaped:
    yield from _linear(f"{name}.timestep_embedder.linear_1", _FREQUENCIES, width)
    yield from _linear(f"{name}.timestep_embedder.linear_2", width, width)


def _residual_block(name: str, width: int) -> Shaped:
    yield from _conv3d(f"{name}.conv1", width, width)
    yield from _conv3d(f"{name}.conv2", width, width)


def _conv3d(name: str, inputs: int, outputs: int) -> Shaped:
    yield f"{name}.conv.weight", (outputs, inputs, 3, 3, 3)
    yield f"{name}.conv.bias", (outputs,)


def _linear(name: str, inputs: int, outputs: int) -> Shaped:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)
