"""List the tensors that a network's weight files must have, from its config, without torch.

The names and shapes are those of diffusers' ``WanTransformer3DModel`` and ``AutoencoderKLWan`` and
of transformers' ``UMT5EncoderModel``, and of LTX-Video's classes (``expected_ltx_tensors``); tests
compare them with those classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from mimix_core.wan import expected_ltx_tensors
from mimix_core.wan.expected_ltx_tensors import Shaped as _Shaped

Shapes = dict[str, tuple[int, ...]]

TOKEN_TABLES = ("shared.weight", "encoder.embed_tokens.weight")
"""Two names of the token table of T5 and UMT5: a file has one, or both with equal values."""

# The classes' own defaults of what the registry does not state.
_RELATIVE_ATTENTION_BUCKETS = 32
_VAE_MULTIPLIERS = (1, 2, 4, 4)
_VAE_DOWNSAMPLED_IN_TIME = (False, True, True)


def expected_tensors(class_name: str, config: Mapping[str, Any]) -> Shapes | None:
    """Return the shape of each tensor by name; None for a class that is not listed here.

    UMT5's token table has the first of its two names. Raises KeyError, TypeError or ValueError for
    a config without the sizes of its class.
    """
    list_shapes = _CLASSES.get(class_name)
    return None if list_shapes is None else dict(list_shapes(config))


def _wan_transformer(config: Mapping[str, Any]) -> _Shaped:
    width = config["num_attention_heads"] * config["attention_head_dim"]
    patch = tuple(config["patch_size"])
    yield "scale_shift_table", (1, 2, width)
    yield "patch_embedding.weight", (width, config["in_channels"], *patch)
    yield "patch_embedding.bias", (width,)
    conditions = "condition_embedder."
    yield from _linear(f"{conditions}time_embedder.linear_1", config["freq_dim"], width)
    yield from _linear(f"{conditions}time_embedder.linear_2", width, width)
    yield from _linear(f"{conditions}time_proj", width, 6 * width)
    yield from _linear(f"{conditions}text_embedder.linear_1", config["text_dim"], width)
    yield from _linear(f"{conditions}text_embedder.linear_2", width, width)
    for number in range(config["num_layers"]):
        block = f"blocks.{number}."
        yield f"{block}scale_shift_table", (1, 6, width)
        for attention in ("attn1", "attn2"):
            for layer in ("to_q", "to_k", "to_v", "to_out.0"):
                yield from _linear(f"{block}{attention}.{layer}", width, width)
            yield f"{block}{attention}.norm_q.weight", (width,)
            yield f"{block}{attention}.norm_k.weight", (width,)
        yield f"{block}norm2.weight", (width,)
        yield f"{block}norm2.bias", (width,)
        yield from _linear(f"{block}ffn.net.0.proj", width, config["ffn_dim"])
        yield from _linear(f"{block}ffn.net.2", config["ffn_dim"], width)
    values = patch[0] * patch[1] * patch[2]
    yield from _linear("proj_out", width, config["out_channels"] * values)


def _umt5_encoder(config: Mapping[str, Any]) -> _Shaped:
    return _text_encoder(config, blocks_with_bias=config["num_layers"])


def _t5_encoder(config: Mapping[str, Any]) -> _Shaped:
    return _text_encoder(config, blocks_with_bias=1)


def _text_encoder(config: Mapping[str, Any], blocks_with_bias: int) -> _Shaped:
    width, attention = config["d_model"], config["d_kv"] * config["num_heads"]
    yield TOKEN_TABLES[0], (config["vocab_size"], width)
    for number in range(config["num_layers"]):
        block = f"encoder.block.{number}.layer."
        for layer in "qkv":
            yield f"{block}0.SelfAttention.{layer}.weight", (attention, width)
        yield f"{block}0.SelfAttention.o.weight", (width, attention)
        bias = (_RELATIVE_ATTENTION_BUCKETS, config["num_heads"])
        if number < blocks_with_bias:
            yield f"{block}0.SelfAttention.relative_attention_bias.weight", bias
        yield f"{block}0.layer_norm.weight", (width,)
        for layer in ("wi_0", "wi_1"):
            yield f"{block}1.DenseReluDense.{layer}.weight", (config["d_ff"], width)
        yield f"{block}1.DenseReluDense.wo.weight", (width, config["d_ff"])
        yield f"{block}1.layer_norm.weight", (width,)
    yield "encoder.final_layer_norm.weight", (width,)


def _wan_vae(config: Mapping[str, Any]) -> _Shaped:
    width, latents = config["base_dim"], config["z_dim"]
    factors = tuple(config.get("dim_mult") or _VAE_MULTIPLIERS)
    in_time = tuple(config.get("temperal_downsample") or _VAE_DOWNSAMPLED_IN_TIME)
    widths = [width, *(width * factor for factor in factors)]
    residual, depth = config.get("is_residual", False), config["num_res_blocks"]
    yield from _conv3d("encoder.conv_in", config.get("in_channels", 3), widths[0])
    yield from _encoder_blocks(widths, depth, in_time, residual=residual)
    yield from _vae_ends("encoder", middle=widths[-1], last=widths[-1], outputs=2 * latents)
    yield from _conv3d("quant_conv", 2 * latents, 2 * latents, 1, 1)
    yield from _conv3d("post_quant_conv", latents, latents, 1, 1)
    width = config.get("decoder_base_dim") or width
    widths = [width * factor for factor in (factors[-1], *reversed(factors))]
    yield from _conv3d("decoder.conv_in", latents, widths[0])
    yield from _decoder_blocks(widths, depth, in_time[::-1], residual=residual)
    outputs = config.get("out_channels", 3)
    yield from _vae_ends("decoder", middle=widths[0], last=widths[-1], outputs=outputs)


def _encoder_blocks(
    widths: list[int], depth: int, in_time: Sequence[bool], *, residual: bool
) -> _Shaped:
    """List the blocks of each level; those of a residual VAE are nested, others numbered on."""
    number = 0
    for level, (inputs, outputs) in enumerate(pairwise(widths)):
        nested = f"encoder.down_blocks.{level}."
        for layer in range(depth):
            name = f"{nested}resnets.{layer}" if residual else f"encoder.down_blocks.{number}"
            yield from _residual_block(name, outputs if layer else inputs, outputs)
            number += 1
        if level < len(in_time):
            name = f"{nested}downsampler" if residual else f"encoder.down_blocks.{number}"
            yield from _resample(name, outputs, outputs, in_time[level], 1)
            number += 1


def _decoder_blocks(
    widths: list[int], depth: int, in_time: Sequence[bool], *, residual: bool
) -> _Shaped:
    for level, (inputs, outputs) in enumerate(pairwise(widths)):
        block = f"decoder.up_blocks.{level}"
        # Without residuals the upsampler of the level before halves the channels.
        first = inputs if level == 0 or residual else inputs // 2
        for layer in range(depth + 1):
            name = f"{block}.resnets.{layer}"
            yield from _residual_block(name, outputs if layer else first, outputs)
        if level < len(in_time):
            name, reduced = ("upsampler", outputs) if residual else ("upsamplers.0", outputs // 2)
            yield from _resample(f"{block}.{name}", outputs, reduced, in_time[level], 2)


def _vae_ends(part: str, *, middle: int, last: int, outputs: int) -> _Shaped:
    attention = f"{part}.mid_block.attentions.0"
    yield f"{attention}.norm.gamma", (middle, 1, 1)
    for layer, channels in (("to_qkv", 3 * middle), ("proj", middle)):
        yield f"{attention}.{layer}.weight", (channels, middle, 1, 1)
        yield f"{attention}.{layer}.bias", (channels,)
    for number in range(2):
        yield from _residual_block(f"{part}.mid_block.resnets.{number}", middle, middle)
    yield f"{part}.norm_out.gamma", (last, 1, 1, 1)
    yield from _conv3d(f"{part}.conv_out", last, outputs)


def _residual_block(name: str, inputs: int, outputs: int) -> _Shaped:
    yield f"{name}.norm1.gamma", (inputs, 1, 1, 1)
    yield from _conv3d(f"{name}.conv1", inputs, outputs)
    yield f"{name}.norm2.gamma", (outputs, 1, 1, 1)
    yield from _conv3d(f"{name}.conv2", outputs, outputs)
    if inputs != outputs:
        yield from _conv3d(f"{name}.conv_shortcut", inputs, outputs, 1, 1)


def _resample(name: str, inputs: int, outputs: int, in_time: bool, factor: int) -> _Shaped:
    yield f"{name}.resample.1.weight", (outputs, inputs, 3, 3)
    yield f"{name}.resample.1.bias", (outputs,)
    if in_time:
        yield from _conv3d(f"{name}.time_conv", inputs, factor * inputs, 3, 1)


def _conv3d(name: str, inputs: int, outputs: int, frames: int = 3, side: int = 3) -> _Shaped:
    yield f"{name}.weight", (outputs, inputs, frames, side, side)
    yield f"{name}.bias", (outputs,)


def _linear(name: str, inputs: int, outputs: int) -> _Shaped:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


_CLASSES = {
    "WanTransformer3DModel": _wan_transformer,
    "AutoencoderKLWan": _wan_vae,
    "UMT5EncoderModel": _umt5_encoder,
    "LTXVideoTransformer3DModel": expected_ltx_tensors.transformer,
    "AutoencoderKLLTXVideo": expected_ltx_tensors.vae,
    "T5EncoderModel": _t5_encoder,
}
