"""The convolutions of Wan's VAE without needless copies, which is what bounds it on a GPU.

diffusers pads each convolution's input in space by copying it, where the convolution can do that
itself; and activations keep their channels last, as cuDNN's kernels want them. Results differ by
rounding only; parameters keep their names.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch.nn.functional import conv3d


class CausalConv3d(WanCausalConv3d):  # type: ignore[misc]
    """``WanCausalConv3d`` that copies its input only to put earlier frames before it."""

    def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        """out_BOTHW of x_BCTHW and the last frames before it; zeros where there are none."""
        width, _, height, _, needed, _ = self._padding
        if needed:
            earlier = 0 if cache_x is None else min(needed, cache_x.shape[2])
            size = (*x.shape[:2], needed + x.shape[2], *x.shape[3:])
            # torch.cat would fall back to channels first, since the few cached frames look so.
            layout = torch.channels_last_3d
            whole = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout)
            whole[:, :, : needed - earlier] = 0
            if cache_x is not None:
                whole[:, :, needed - earlier : needed] = cache_x[:, :, -needed:]
            whole[:, :, needed:] = x
            x = whole
        return conv3d(x, self.weight, self.bias, self.stride, (0, height, width))


def swap(vae: Any) -> Any:
    """Put ``vae`` (``AutoencoderKLWan``) on these convolutions, in place."""
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
