"""Convolutions of Wan's VAE without redundant copies, which limit its speed on a GPU.

diffusers pads each convolution's input spatially by copying it, although the convolution can pad by
itself. Activations stay in channels-last layout, which cuDNN's kernels need. Results differ by
rounding only; parameter names do not change.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch.nn.functional import conv3d


class CausalConv3d(WanCausalConv3d):  # type: ignore[misc]
    """``WanCausalConv3d`` that copies its input only to prepend earlier frames."""

    def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        """Compute out_BOTHW from x_BCTHW and the frames before it, padded with zeros."""
        width, _, height, _, padding, _ = self._padding
        if padding:
            cached = 0 if cache_x is None else min(padding, cache_x.shape[2])
            size = (*x.shape[:2], padding + x.shape[2], *x.shape[3:])
            # torch.cat would fall back to channels first: the few cached frames have both layouts.
            layout = torch.channels_last_3d
            padded = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout)
            padded[:, :, : padding - cached] = 0
            if cache_x is not None:
                padded[:, :, padding - cached : padding] = cache_x[:, :, -padding:]
            padded[:, :, padding:] = x
            x = padded
        return conv3d(x, self.weight, self.bias, self.stride, (0, height, width))


def replace_convolutions(vae: Any) -> Any:
    """Replace the convolutions of ``vae`` (``AutoencoderKLWan``) in place; return it."""
    layer: Any
    for layer in vae.modules():
        if type(layer) is WanCausalConv3d:
            layer.__class__ = CausalConv3d
        if isinstance(layer, torch.nn.Conv3d):
            layout = torch.channels_last_3d
            layer.weight.data = layer.weight.data.contiguous(memory_format=layout)
        elif isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return vae
