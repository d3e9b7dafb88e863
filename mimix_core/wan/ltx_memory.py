"""Estimate the GPU memory of LTX-Video's transformer and VAE, which run as diffusers has them.

The constants are counts, not measurements of a GPU: bytes of tensors that are alive at once where
the real classes run with the published sizes on meta tensors, rounded up
(tests/wan/test_ltx_memory.py). Attention counts as one operator that keeps its output and a number
per query, as flash attention does. Workspaces of cuBLAS and cuDNN and the allocator's fragmentation
are not in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRANSFORMER_CLASS = "LTXVideoTransformer3DModel"
VAE_CLASS = "AutoencoderKLLTXVideo"

TILE_SIZE = 512
"""Width and height of a tile in pixels (the VAE's default)."""

# By the bytes of an element: many tensors are fp32 with either, because rotary positions, norms and
# adapters are computed so.
# Bytes per token and unit of width in the backward pass of a block that is recomputed completely.
_TRAINING = {2: 120, 4: 130}
# The same per token of the text, of which only keys and values are as long.
_TRAINING_TEXT = 36
# What peft's DoRA adds, per token and unit of width, and per parameter of a block: it builds the
# complete change of each layer in fp32.
_DORA, _DORA_PARAMETERS = 62, 8.5
# Bytes per token, of the text too, and unit of width in a pass without gradients.
_DENOISING = {2: 33, 4: 58}
# Bytes per value of the decoder's last features, all frames at once.
_DECODING = {2: 12.6, 4: 17.4}


@dataclass(frozen=True)
class TokenShape:
    """The sizes of a micro batch: ``tokens`` and ``text_tokens`` of each of its samples."""

    samples: int
    tokens: int
    text_tokens: int
    element_bytes: int


def training_bytes(config: Mapping[str, Any], shape: TokenShape, *, use_dora: bool) -> float:
    """Return the memory of a training step besides weights, adapters and the optimizer's state.

    The inputs of all blocks, which checkpoints hold, and the working memory of one block, of which
    everything is recomputed. ``config``: the transformer's.
    """
    width = _width(config)
    tokens = shape.samples * shape.tokens
    inputs = float(config["num_layers"] * tokens * width * shape.element_bytes)
    working = _TRAINING[shape.element_bytes] * tokens
    working += _TRAINING_TEXT * shape.samples * shape.text_tokens
    if not use_dora:
        return inputs + working * width
    # Query, key, value and output of both attentions, and the two layers of the feed-forward.
    block_parameters = (6 + 2 * 4) * width**2 + 2 * width * int(config["cross_attention_dim"])
    return inputs + (working + _DORA * tokens) * width + _DORA_PARAMETERS * block_parameters


def denoising_bytes(config: Mapping[str, Any], shape: TokenShape) -> int:
    """Return the memory of a pass without gradients besides the weights."""
    tokens = shape.samples * (shape.tokens + shape.text_tokens)
    return _DENOISING[shape.element_bytes] * tokens * _width(config)


def decoding_bytes_per_pixel(config: Mapping[str, Any], frames: int, element_bytes: int) -> float:
    """Return the memory of decoding per pixel of a frame, for a video or a tile of ``frames``.

    ``config``: the VAE's. The last features have the size before the VAE's own patches are unfolded
    to pixels. The decoder has all frames in memory at once.
    """
    channels = config["decoder_block_out_channels"][0] // config["upsample_factor"][0]
    values = frames * channels / config["patch_size"] ** 2
    return float(_DECODING[element_bytes] * values)


def _width(config: Mapping[str, Any]) -> int:
    return int(config["num_attention_heads"] * config["attention_head_dim"])
