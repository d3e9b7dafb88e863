"""MUSIQ, Google's multi-scale image quality transformer, as trained on SPAQ.

Written from the paper (Ke et al., ICCV 2021, arXiv 2108.05997) and Google's implementation in
google-research/musiq (Apache-2.0), with the tensor names of the public PyTorch conversion that
VBench loads. That conversion differs from Google's in three places that affect scores and are
reproduced here: images are resized bicubically (Google: with a Gaussian filter), weights are
standardized by the unbiased standard deviation, and GELU is exact.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

PATCH = 32
GRID = 10
"""The spatial embedding hashes any grid of patches to GRID x GRID positions."""
LONGER_SIDES = (224, 384)
"""Longer sides of the resized scales; the last scale is the image at its own size."""
WIDTH = 384
HEADS = 6
LAYERS = 14
MLP_WIDTH = 1152
ROOT_CHANNELS = 64
BLOCK_CHANNELS = 256


class StandardizedConv(nn.Conv2d):
    """Convolution with standardized filters (mean 0, std 1) and TensorFlow's "SAME" padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        std, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (std + 1e-5)
        x_BCHW = pad_same(x_BCHW, self.kernel_size[0], self.stride[0])
        return F.conv2d(x_BCHW, weight, stride=self.stride)


def pad_same(x_BCHW: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Pad with zeros to fit ceil(side / stride) windows; an odd pixel goes right or bottom."""
    totals = [
        max(0, (math.ceil(side / stride) - 1) * stride + kernel - side)
        for side in (x_BCHW.shape[-1], x_BCHW.shape[-2])
    ]
    padding = [part for total in totals for part in (total // 2, total - total // 2)]
    return F.pad(x_BCHW, padding)


class MusiqBottleneck(nn.Module):
    """Residual block over each patch: 1x1, 3x3 and 1x1 convolutions, with a projected shortcut."""

    def __init__(self) -> None:
        super().__init__()
        inner, outer = ROOT_CHANNELS, BLOCK_CHANNELS
        self.conv1 = StandardizedConv(inner, inner, 1)
        self.gn1 = nn.GroupNorm(32, inner, eps=1e-4)
        self.conv2 = StandardizedConv(inner, inner, 3)
        self.gn2 = nn.GroupNorm(32, inner, eps=1e-4)
        self.conv3 = StandardizedConv(inner, outer, 1)
        self.gn3 = nn.GroupNorm(32, outer, eps=1e-4)
        self.conv_proj = StandardizedConv(inner, outer, 1)
        self.gn_proj = nn.GroupNorm(32, outer, eps=1e-4)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        inner = F.relu(self.gn1(self.conv1(x_BCHW)))
        inner = F.relu(self.gn2(self.conv2(inner)))
        return F.relu(self.gn3(self.conv3(inner)) + self.gn_proj(self.conv_proj(x_BCHW)))


class MusiqAttention(nn.Module):
    """Multi-head self-attention over all patches of all scales."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            layer(x_BLD).reshape(*x_BLD.shape[:2], HEADS, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        heads_BHLK = F.scaled_dot_product_attention(query, key, value)
        out_BLD: torch.Tensor = self.out(heads_BHLK.transpose(1, 2).flatten(2))
        return out_BLD


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, MLP_WIDTH)
        self.fc2 = nn.Linear(MLP_WIDTH, WIDTH)

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        out_BLD: torch.Tensor = self.fc2(F.gelu(self.fc1(x_BLD)))
        return out_BLD


class EncoderBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attention = MusiqAttention()
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = Mlp()

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        x_BLD = x_BLD + self.attention(self.norm1(x_BLD))
        x_BLD = x_BLD + self.mlp(self.norm2(x_BLD))
        return x_BLD


class SpatialEmbedding(nn.Module):
    """Learned embedding of each position of the GRID x GRID hash."""

    def __init__(self) -> None:
        super().__init__()
        self.position_emb = nn.Parameter(torch.zeros(1, GRID * GRID, WIDTH))

    def forward(self, positions_L: torch.Tensor) -> torch.Tensor:
        return self.position_emb[0, positions_L]


class ScaleEmbedding(nn.Module):
    """Learned embedding of each scale, the image's own size last."""

    def __init__(self) -> None:
        super().__init__()
        self.scale_emb = nn.Parameter(torch.zeros(len(LONGER_SIDES) + 1, WIDTH))

    def forward(self, scales_L: torch.Tensor) -> torch.Tensor:
        return self.scale_emb[scales_L]


class MusiqEncoder(nn.Module):
    """Transformer over patch embeddings and a class token, whose output represents the image."""

    def __init__(self) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.posembed_input = SpatialEmbedding()
        self.scaleembed_input = ScaleEmbedding()
        self.transformer = nn.ModuleDict(
            {f"encoderblock_{number}": EncoderBlock() for number in range(LAYERS)}
        )
        self.encoder_norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(
        self, x_BLD: torch.Tensor, positions_L: torch.Tensor, scales_L: torch.Tensor
    ) -> torch.Tensor:
        """Return class_BD of patches x_BLD with these hashed positions and scales."""
        x_BLD = x_BLD + self.posembed_input(positions_L) + self.scaleembed_input(scales_L)
        x_BLD = torch.cat([self.cls.expand(len(x_BLD), -1, -1), x_BLD], dim=1)
        for block in self.transformer.values():
            x_BLD = block(x_BLD)
        class_BD: torch.Tensor = self.encoder_norm(x_BLD[:, 0])
        return class_BD


class Musiq(nn.Module):
    """Quality, 0 to 100 on SPAQ's scale, of images of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_root = StandardizedConv(3, ROOT_CHANNELS, 7, 2)
        self.gn_root = nn.GroupNorm(32, ROOT_CHANNELS, eps=1e-6)
        self.block1 = MusiqBottleneck()
        self.embedding = nn.Linear(BLOCK_CHANNELS * (PATCH // 4) ** 2, WIDTH)
        self.transformer_encoder = MusiqEncoder()
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Return quality_B of RGB images in 0..1."""
        images_BCHW = (images_BCHW - 0.5) * 2
        resized = [resize_longer_side(images_BCHW, side) for side in LONGER_SIDES]
        patches, positions, scales = [], [], []
        for scale, scaled_BCHW in enumerate([*resized, images_BCHW]):
            patches_BNCHW, grid = extract_patches(scaled_BCHW)
            patches.append(patches_BNCHW)
            positions.append(hashed_positions(*grid))
            scales.append(torch.full((grid[0] * grid[1],), scale))
        class_BD = self.transformer_encoder(
            self._embed(torch.cat(patches, dim=1)),
            torch.cat(positions).to(images_BCHW.device),
            torch.cat(scales).to(images_BCHW.device),
        )
        quality_B: torch.Tensor = self.head(class_BD)[:, 0]
        return quality_B

    def _embed(self, patches_BNCHW: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.gn_root(self.conv_root(patches_BNCHW.flatten(0, 1))))
        # After a ReLU, padding with zeros is equivalent to "SAME" pooling's padding with -infinity.
        x = self.block1(F.max_pool2d(pad_same(x, 3, 2), 3, 2))
        x_BND = x.permute(0, 2, 3, 1).reshape(*patches_BNCHW.shape[:2], -1)
        embeddings_BND: torch.Tensor = self.embedding(x_BND)
        return embeddings_BND


def resize_longer_side(images_BCHW: torch.Tensor, longer: int) -> torch.Tensor:
    """Scale images up or down to that longer side, preserving the aspect ratio."""
    height, width = images_BCHW.shape[-2:]
    ratio = longer / max(height, width)
    size = (round(height * ratio), round(width * ratio))
    return F.interpolate(images_BCHW, size=size, mode="bicubic", align_corners=False)


def extract_patches(images_BCHW: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return patches_BNCHW in row-major order, and the numbers of rows and columns.

    Upstream pads the smaller scales to a fixed number of patches and masks the padding; masked
    patches do not affect the result and are omitted here.
    """
    padded_BCHW = pad_same(images_BCHW, PATCH, PATCH)
    grid = (padded_BCHW.shape[-2] // PATCH, padded_BCHW.shape[-1] // PATCH)
    patches = padded_BCHW.reshape(-1, 3, grid[0], PATCH, grid[1], PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2), grid


def hashed_positions(grid_rows: int, grid_columns: int) -> torch.Tensor:
    """Return positions_L, int64, of a grid's patches in the GRID x GRID hash, row-major."""
    rows, columns = (
        F.interpolate(torch.arange(GRID).float()[None, None], size=count, mode="nearest")[0, 0]
        for count in (grid_rows, grid_columns)
    )
    return (rows[:, None] * GRID + columns[None, :]).flatten().long()
