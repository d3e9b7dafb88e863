"""CLIP's image encoder (openai/CLIP, MIT; Radford et al. 2021), from its own weights.

Half precision on a GPU, float32 on a CPU, as ``clip.load`` has it, through which VBench runs it:
its published values are those of half precision.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.networks.transformer import LayerNorm, Transformer


class ImageEncoder(nn.Module):
    """Vision transformer: pixels_BCHW, normalised, to embeddings_BD (not of unit length).

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


def load(path: Path, device: torch.device) -> ImageEncoder:
    """The image encoder of a released CLIP file, its sizes read from the weights.

    Like ``clip.load``, every layer's weights pass through half precision, as which OpenAI released
    them; norms and embeddings do not. Raises BadInput for a file of something else.
    """
    found = vbench_weights.tensors(path, prefix="visual.")
    rounded = {k: v.half() if _released_in_half(k) else v for k, v in found.items()}
    with vbench_weights.named_sizes(path), torch.device("meta"):
        network = ImageEncoder(
            width=found["conv1.weight"].shape[0],
            patch=found["conv1.weight"].shape[-1],
            tokens=found["positional_embedding"].shape[0],
            layers=vbench_weights.layers(found, "transformer.resblocks."),
            out=found["proj"].shape[1],
        )
    network = vbench_weights.fill(network, rounded, path, device)
    return in_half(network) if device.type == "cuda" else network


def in_half(network: ImageEncoder) -> ImageEncoder:
    """The same network, its layers' weights in half precision; it computes in theirs."""
    for name, weight in network.named_parameters():
        if _released_in_half(name):
            weight.data = weight.data.half()
    return network


def _released_in_half(name: str) -> bool:
    """All but norms and embeddings (OpenAI's ``convert_weights``)."""
    return not (name.endswith("_embedding") or "ln_" in name)
