"""What is put on a GPU, what comes and goes, and what is decoded in tiles: by the memory there is.

Estimates are a little above what ``perf/generate.py`` measures on an H200, per token and pixel: a
pass of the 14B takes 3.9 GB beside its weights and is taken for 4.5, decoding 7.4 GB and for 7.8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mimix_core.settings import SampleSettings
from mimix_core.wan.model_registry import Backbone

Choice = Literal["auto", "on", "off"]

# Bytes of an eager forward pass a token: by the model's width, and by the feed-forward's.
_WORKING_WIDTH, _WORKING_FFN = 16, 4
# Numbers the VAE's decoder holds a pixel: features of four frames, and of those before.
_DECODING_A_PIXEL = 4400
# A tile is 256 pixels wide and high (diffusers' own).
TILE = 256
# Of the GPU, for cuDNN's and cuBLAS's workspaces and what the allocator cannot use.
_SPARE = 0.06


@dataclass(frozen=True)
class Needs:
    """Bytes on a GPU: weights of the three networks, and what computing takes beside them."""

    text_encoder: int
    transformer: int
    vae: int
    denoising: int
    decoding: int
    decoding_tiled: int


@dataclass(frozen=True)
class Placing:
    """``text_on_gpu``: the prompts' embedding. ``streamed``: the transformer's blocks come to the
    GPU as they are needed. ``tiled``: the VAE decodes in tiles."""

    text_on_gpu: bool
    streamed: bool
    tiled: bool


def needs(
    backbone: Backbone,
    settings: SampleSettings,
    *,
    text_encoder: Path,
    transformer: Path,
    vae: Path,
) -> Needs:
    """What one video takes at the settings' size and precision, for the weights in these folders.

    The text encoder is loaded in the type it is stored in.
    """
    from mimix_core.wan import safetensors_io

    def numbers(folder: Path) -> int:
        return sum(safetensors_io.parameters(path) for path in folder.glob("*.safetensors"))

    config = backbone.transformer.config
    frames, side, _ = backbone.vae_stride
    latent_frames = (settings.frames - 1) // frames + 1
    patches = settings.width * settings.height // (side * config["patch_size"][1]) ** 2
    together = 2 if settings.guidance_batch and settings.guidance > 1 else 1
    tokens = latent_frames * patches * together
    width = config["num_attention_heads"] * config["attention_head_dim"]
    a_token = _WORKING_WIDTH * width + _WORKING_FFN * config["ffn_dim"]
    wide = 2 if settings.precision == "fp32" else 1
    vae_bytes = 4 if settings.vae_precision == "fp32" else 2
    # The whole video twice: it grows as its latent frames are decoded.
    pictures = 2 * 3 * settings.frames * settings.width * settings.height * vae_bytes
    base = backbone.vae.config
    channels = base.get("decoder_base_dim", base["base_dim"]) / 96
    # Features stand before a VAE's own patches are unfolded to pixels.
    a_pixel = _DECODING_A_PIXEL * channels * vae_bytes / base.get("patch_size", 1) ** 2
    pixels = settings.width * settings.height
    tile = min(settings.width, TILE) * min(settings.height, TILE)
    return Needs(
        text_encoder=sum(path.stat().st_size for path in text_encoder.glob("*.safetensors")),
        transformer=2 * wide * numbers(transformer),
        vae=vae_bytes * numbers(vae),
        denoising=wide * tokens * a_token,
        decoding=math.ceil(pixels * a_pixel) + pictures,
        # Each tile's video is held until all are joined, with what overlaps.
        decoding_tiled=math.ceil(tile * a_pixel) + 2 * pictures,
    )


def plan(needed: Needs, free: int, offload: Choice, tiling: Choice) -> Placing:
    """How ``free`` bytes of a GPU are used. More memory never means more streaming or tiling.

    Streaming comes first: it changes no pixel.
    """
    usable = int(free * (1 - _SPARE))
    decoding = needed.decoding_tiled if tiling == "on" else needed.decoding
    whole = needed.transformer + needed.vae + max(needed.denoising, decoding)
    streamed = whole > usable if offload == "auto" else offload == "on"
    held = needed.vae + (0 if streamed else needed.transformer)
    tiled = held + needed.decoding > usable if tiling == "auto" else tiling == "on"
    return Placing(needed.text_encoder <= usable, streamed, tiled)
