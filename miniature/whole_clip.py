"""Run Wan's VAE on a whole clip in one pass, as fast training needs it.

diffusers' ``encode`` and ``decode`` pass a few frames at a time through the networks and hand the
last ones on, which saves memory on long videos but takes five times as many launches here. The
results are the same: every convolution in time is causal, and the first frame is never resampled.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, patchify, unpatchify
from diffusers.models.autoencoders.vae import DecoderOutput

from mimix_core.wan.vae_layers import replace_convolutions

Tensor = torch.Tensor


class WholeClipResample(WanResample):  # type: ignore[misc]
    """``WanResample`` that, without a cache, resamples a whole clip in time as well."""

    def forward(
        self, x: Tensor, feat_cache: list[Any] | None = None, feat_idx: list[int] | None = None
    ) -> Tensor:
        """Resample x_BCTHW."""
        if feat_cache is not None:
            chunk: Tensor = super().forward(x, feat_cache, feat_idx)
            return chunk
        if self.mode == "upsample3d" and x.shape[2] > 1:
            batch, channels, _, height, width = x.shape
            later = self.time_conv(x[:, :, 1:])
            later = later.reshape(batch, 2, channels, -1, height, width)
            later = later.permute(0, 2, 3, 1, 4, 5).reshape(batch, channels, -1, height, width)
            x = torch.cat([x[:, :, :1], later], 2)
        x = super().forward(x)
        if self.mode == "downsample3d" and x.shape[2] > 1:
            x = torch.cat([x[:, :, :1], self.time_conv(x)], 2)
        return x


class WholeClipVae(AutoencoderKLWan):  # type: ignore[misc]
    """``AutoencoderKLWan`` that decodes a whole clip in one pass, after ``replace_layers``."""

    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Decode latents z_BCTHW to a video in -1..1."""
        video = decode(self, z).clamp(-1, 1)
        return DecoderOutput(sample=video) if return_dict else (video,)


def replace_layers(vae: Any) -> Any:
    """Replace the layers of ``vae`` (``AutoencoderKLWan``) that a whole clip needs; return it."""
    layer: Any
    for layer in vae.modules():
        if type(layer) is WanResample:
            layer.__class__ = WholeClipResample
    return replace_convolutions(vae)


def moments(vae: Any, video_BCTHW: Tensor) -> Tensor:
    """Encode a video in -1..1 as mean and log variance, stacked in the channels."""
    patches = patchify(video_BCTHW, patch_size=vae.config.patch_size)
    patches = patches.contiguous(memory_format=torch.channels_last_3d)
    encoded: Tensor = vae.quant_conv(vae.encoder(patches))
    return encoded


def decode(vae: Any, latents_BCTHW: Tensor) -> Tensor:
    """Decode latents to a video around -1..1, without the clamp, which would stop gradients."""
    latents_BCTHW = latents_BCTHW.contiguous(memory_format=torch.channels_last_3d)
    patches = vae.decoder(vae.post_quant_conv(latents_BCTHW))
    video: Tensor = unpatchify(patches, patch_size=vae.config.patch_size)
    return video
