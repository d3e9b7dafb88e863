"""CLIP's image encoder (openai/CLIP, MIT; Radford et al. 2021).

It computes in half precision on a GPU and in float32 on a CPU, like ``clip.load``, which VBench
uses: VBench's published values are those of half precision.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.networks.transformer import LayerNorm, Transformer


class ImageEncoder(nn.Module):
    """Vision transformer: normalized pixels_BCHW to embeddings_BD (not of unit length).

    The embeddings have the precision of the layers' weights.
    """

    def __init__(self, width: int, patch: int, tokens: int, layers: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(tokens, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, out))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        dtype = self.conv1.weight.dtype
        patches_BLD = self.conv1(pixels_BCHW.to(dtype)).flatten(2).transpose(1, 2)
        first_B1D = self.class_embedding.to(dtype).expand(len(patches_BLD), 1, -1)
        tokens_BLD = torch.cat([first_B1D, patches_BLD], dim=1)
        tokens_BLD = tokens_BLD + self.positional_embedding.to(dtype)
        tokens_BLD = self.transformer(self.ln_pre(tokens_BLD))
        out: Tensor = self.ln_post(tokens_BLD[:, 0]) @ self.proj
        return out


def load_image_encoder(path: Path, device: torch.device) -> ImageEncoder:
    """Load the image encoder of a released CLIP file; its sizes follow from the weights' shapes.

    Like ``clip.load``, it rounds every layer's weights to half precision, in which OpenAI released
    them, but not norms and embeddings. Raises BadInput for weights of another network.
    """
    tensors = vbench_weights.load_tensors(path, prefix="visual.")
    rounded = {k: v.half() if _is_half_precision(k) else v for k, v in tensors.items()}
    with vbench_weights.missing_tensor_as_bad_input(path), torch.device("meta"):
        network = ImageEncoder(
            width=tensors["conv1.weight"].shape[0],
            patch=tensors["conv1.weight"].shape[-1],
            tokens=tensors["positional_embedding"].shape[0],
            layers=vbench_weights.count_layers(tensors, "transformer.resblocks."),
            out=tensors["proj"].shape[1],
        )
    network = vbench_weights.assign_weights(network, rounded, path, device)
    return to_half_precision(network) if device.type == "cuda" else network


def to_half_precision(network: ImageEncoder) -> ImageEncoder:
    """Convert the layers' weights, and thereby the computation, to half precision in place."""
    for name, weight in network.named_parameters():
        if _is_half_precision(name):
            weight.data = weight.data.half()
    return network


def _is_half_precision(name: str) -> bool:
    """Return True for all but norms and embeddings (OpenAI's ``convert_weights``)."""
    return not (name.endswith("_embedding") or "ln_" in name)
