"""DINO's vision transformer (facebookresearch/dino, Apache-2.0; Caron et al. 2021)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.networks.transformer import HEAD_WIDTH

_EPSILON = 1e-6


class Dino(nn.Module):
    """Vision transformer: pixels_BCHW of any size to the class token's embeddings_BD."""

    def __init__(self, width: int, patch: int, tokens: int, layers: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, width))
        self.patch_embed = _PatchEmbedding(width, patch)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=_EPSILON)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        patches_BDhw = self.patch_embed(pixels_BCHW)
        patches_BLD = patches_BDhw.flatten(2).transpose(1, 2)
        tokens_BLD = torch.cat([self.cls_token.expand(len(patches_BLD), -1, -1), patches_BLD], 1)
        tokens_BLD = tokens_BLD + self._positions(pixels_BCHW, *patches_BDhw.shape[-2:])
        for block in self.blocks:
            tokens_BLD = block(tokens_BLD)
        first_BD: Tensor = self.norm(tokens_BLD)[:, 0]
        return first_BD

    def _positions(self, pixels_BCHW: Tensor, rows: int, columns: int) -> Tensor:
        """Interpolate the trained square grid of position embeddings to ``rows`` x ``columns``.

        Returns positions_1LD. DINO adds 0.1 patches to avoid a rounding error, which changes the
        interpolation scale and therefore the values; this is reproduced here.
        """
        height, width = pixels_BCHW.shape[-2:]
        grid = math.isqrt(self.pos_embed.shape[1] - 1)
        if rows * columns == grid * grid and height == width:
            return self.pos_embed
        square_1Dgg = self.pos_embed[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
        resized_1Dhw = F.interpolate(
            square_1Dgg,
            scale_factor=((rows + 0.1) / grid, (columns + 0.1) / grid),
            mode="bicubic",
        )
        positions_1LD = resized_1Dhw.flatten(2).transpose(1, 2)
        return torch.cat([self.pos_embed[:, :1], positions_1LD], dim=1)


class _PatchEmbedding(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        patches_BDhw: Tensor = self.proj(pixels_BCHW)
        return patches_BDhw


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPSILON)
        self.attn = _Attention(width)
        self.norm2 = nn.LayerNorm(width, eps=_EPSILON)
        self.mlp = _FeedForward(width)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        tokens_BLD = tokens_BLD + self.attn(self.norm1(tokens_BLD))
        out_BLD: Tensor = tokens_BLD + self.mlp(self.norm2(tokens_BLD))
        return out_BLD


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        shape = (*tokens_BLD.shape[:2], 3, -1, HEAD_WIDTH)
        q, k, v = self.qkv(tokens_BLD).reshape(shape).permute(2, 0, 3, 1, 4)
        heads_BHLE = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(heads_BHLE.transpose(1, 2).flatten(2))
        return out


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens_BLD)))
        return out


def load_dino(path: Path, device: torch.device) -> Dino:
    """Load DINO; its sizes follow from the weights. Raises BadInput for another network's."""
    tensors = vbench_weights.load_tensors(path)
    with vbench_weights.missing_tensor_as_bad_input(path), torch.device("meta"):
        network = Dino(
            width=tensors["cls_token"].shape[-1],
            patch=tensors["patch_embed.proj.weight"].shape[-1],
            tokens=tensors["pos_embed"].shape[1],
            layers=vbench_weights.count_layers(tensors, "blocks."),
        )
    return vbench_weights.assign_weights(network, tensors, path, device)
