"""Plan GPU memory: what stays on the GPU, what is streamed, and whether the VAE decodes in tiles.

Estimates are slightly above the measurements of ``perf/generate.py`` on an H200, per token and
pixel: a pass of the 14B takes 3.9 GB besides its weights (estimated 4.5), decoding 7.4 GB (7.8).
LTX-Video's are counted instead (``ltx_memory``); other architectures' are rough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mimix_core.settings import SampleSettings
from mimix_core.wan import ltx_memory
from mimix_core.wan.model_registry import Backbone

AutoOnOff = Literal["auto", "on", "off"]

# Bytes per token of an eager forward pass: per unit of the model's and of the feed-forward's width.
_BYTES_PER_WIDTH, _BYTES_PER_FFN = 16, 4
# Values per pixel in the VAE's decoder: features of four frames, and of those before.
_DECODER_VALUES_PER_PIXEL = 4400
# Copies of its last features that a decoder of all frames at once has in memory (not measured).
_WHOLE_VIDEO_COPIES = 6
# Channels of such a decoder's last features where its config does not name them.
_USUAL_CHANNELS = 128
# Width and height of a tile in pixels (diffusers' default for Wan).
TILE_SIZE = 256
# Share of the GPU for cuDNN's and cuBLAS's workspaces and the allocator's fragmentation.
_RESERVED_SHARE = 0.06
# A step cache holds two tensors of the tokens for each of a step's passes.
_CACHED_TENSORS = 2


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on a GPU: weights of the three networks, and the working memory besides them.

    ``transformer``: of each of the ``transformers``, of which one predicts at a time.
    """

    text_encoder: int
    transformer: int
    vae: int
    denoising: int
    decoding: int
    decoding_tiled: int
    transformers: int = 1


@dataclass(frozen=True)
class DevicePlan:
    """Where the components run.

    ``text_on_gpu``: prompts are embedded on the GPU. ``streamed``: the transformer's blocks are
    copied to the GPU as they are needed. ``tiled``: the VAE decodes in tiles. ``swapped``: of two
    transformers only the one that predicts is on the GPU.
    """

    text_on_gpu: bool
    streamed: bool
    tiled: bool
    swapped: bool = False

    def resident_transformers(self, estimate: MemoryEstimate) -> int:
        """Return the bytes of the transformers that stay on the GPU."""
        if self.streamed:
            return 0
        return estimate.transformer * (1 if self.swapped else estimate.transformers)


def estimate_memory(
    backbone: Backbone,
    settings: SampleSettings,
    *,
    text_encoder: Path,
    transformer: Path,
    vae: Path,
) -> MemoryEstimate:
    """Estimate the memory for one video at the settings' size and precision.

    The folders hold the components' weights. The text encoder is loaded in its stored dtype.
    """
    from mimix_core.wan import safetensors_io

    def parameters(folder: Path) -> int:
        return sum(safetensors_io.count_parameters(path) for path in folder.glob("*.safetensors"))

    vae_bytes = 4 if settings.vae_precision == "fp32" else 2
    # The complete video twice: it is copied as decoded latent frames are appended.
    video_bytes = 2 * 3 * settings.num_frames * settings.width * settings.height * vae_bytes
    bytes_per_pixel = _decoder_bytes_per_pixel(backbone, settings.num_frames, vae_bytes)
    pixels = settings.width * settings.height
    side = ltx_memory.TILE_SIZE if backbone.vae.class_name == ltx_memory.VAE_CLASS else TILE_SIZE
    tile = min(settings.width, side) * min(settings.height, side)
    return MemoryEstimate(
        text_encoder=sum(path.stat().st_size for path in text_encoder.glob("*.safetensors")),
        transformer=_element_bytes(settings) * parameters(transformer),
        vae=vae_bytes * parameters(vae),
        denoising=_denoising_bytes(backbone, settings),
        decoding=math.ceil(pixels * bytes_per_pixel) + video_bytes,
        # The decoded tiles, which overlap, stay in memory until they are blended.
        decoding_tiled=math.ceil(tile * bytes_per_pixel) + 2 * video_bytes,
        transformers=max(1, len(backbone.experts)),
    )


def _element_bytes(settings: SampleSettings) -> int:
    return 4 if settings.precision == "fp32" else 2


def _denoising_bytes(backbone: Backbone, settings: SampleSettings) -> int:
    """Return the memory of a step's pass, or of both of them at once, besides the weights."""
    config = backbone.transformer.config
    latent_frames = (settings.num_frames - 1) // backbone.vae_stride[0] + 1
    tokens = latent_frames * settings.width * settings.height // backbone.size_multiple**2
    guided = settings.guidance_scale > 1
    samples = 2 if settings.batched_guidance and guided else 1
    element_bytes = _element_bytes(settings)
    if backbone.transformer.class_name == ltx_memory.TRANSFORMER_CLASS:
        shape = ltx_memory.TokenShape(samples, tokens, backbone.text_tokens, element_bytes)
        return ltx_memory.denoising_bytes(config, shape)
    width = config["num_attention_heads"] * config["attention_head_dim"]
    # Without a width of its own the feed-forward is diffusers', four times as wide.
    ffn_width = config.get("ffn_dim", 4 * width)
    bytes_per_token = _BYTES_PER_WIDTH * width + _BYTES_PER_FFN * ffn_width
    if settings.step_cache is not None:
        bytes_per_token += (2 if guided else 1) * _CACHED_TENSORS * 2 * width
    return int(element_bytes // 2 * samples * tokens * bytes_per_token)


def _decoder_bytes_per_pixel(backbone: Backbone, frames: int, element_bytes: int) -> float:
    """Return the bytes per pixel of a frame that the VAE's decoder has in memory.

    The decoder's features have the size before the VAE's own patches are unfolded to pixels.
    """
    config = backbone.vae.config
    if backbone.vae.class_name == ltx_memory.VAE_CLASS:
        return ltx_memory.decoding_bytes_per_pixel(config, frames, element_bytes)
    patch_values = config.get("patch_size", 1) ** 2
    if "base_dim" in config:
        channels = config.get("decoder_base_dim", config["base_dim"]) / 96
        return float(_DECODER_VALUES_PER_PIXEL * channels / patch_values * element_bytes)
    # One of another architecture may decode all frames at once.
    channels = config.get("decoder_block_out_channels", (_USUAL_CHANNELS,))[0]
    return float(_WHOLE_VIDEO_COPIES * channels * frames / patch_values * element_bytes)


def plan_device(
    estimate: MemoryEstimate, free: int, offload: AutoOnOff, tiling: AutoOnOff
) -> DevicePlan:
    """Plan the use of ``free`` bytes of a GPU; more memory never adds streaming or tiling.

    Streaming and swapping are preferred to tiling, because they do not change the result. Two
    transformers are swapped where one fits: that copies them once a video, streaming in each step.
    """
    usable = int(free * (1 - _RESERVED_SHARE))
    decoding = estimate.decoding_tiled if tiling == "on" else estimate.decoding
    peak = estimate.transformer + estimate.vae + max(estimate.denoising, decoding)
    streamed = peak > usable if offload == "auto" else offload == "on"
    others = estimate.transformer * (estimate.transformers - 1)
    swapped = offload == "auto" and not streamed and peak + others > usable
    plan = DevicePlan(estimate.text_encoder <= usable, streamed, tiled=False, swapped=swapped)
    resident = estimate.vae + plan.resident_transformers(estimate)
    tiled = resident + estimate.decoding > usable if tiling == "auto" else tiling == "on"
    return replace(plan, tiled=tiled)
