"""MUSIQ, Google's multi-scale image quality transformer, as trained on SPAQ.

Written after the paper (Ke et al., ICCV 2021, arXiv 2108.05997) and Google's own description in
google-research/musiq (Apache-2.0), with the weights' names of the public PyTorch conversion that
VBench loads. That conversion differs from Google's in three places, which are kept, since the value
of a video depends on them: pictures are resized bicubically (Google: with a Gaussian), weights are
standardised by the unbiased deviation, and GELU is exact.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

PATCH = 32
GRID = 10
"""The spatial embedding hashes any grid of patches to GRID x GRID places."""
LONGER_SIDES = (224, 384)
"""The smaller scales; the last scale is the picture in its own size."""
WIDTH = 384
HEADS = 6
LAYERS = 14
MLP_WIDTH = 1152
ROOT_CHANNELS = 64
BLOCK_CHANNELS = 256


class StandardisedConv(nn.Conv2d):
    """A convolution whose filters have mean 0 and deviation 1, with TensorFlow's "SAME" border."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        deviation, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (deviation + 1e-5)
        x_BCHW = pad_same(x_BCHW, self.kernel_size[0], self.stride[0])
        return F.conv2d(x_BCHW, weight, stride=self.stride)


def pad_same(x_BCHW: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Zeros around a picture so that ceil(side / stride) windows fit; the odd one goes last."""
    missing = [
        max(0, (math.ceil(side / stride) - 1) * stride + kernel - side)
        for side in (x_BCHW.shape[-1], x_BCHW.shape[-2])
    ]
    border = [part for total in missing for part in (total // 2, total - total // 2)]
    return F.pad(x_BCHW, border)


class Bottleneck(nn.Module):
    """The one residual block over each patch: 1x1, 3x3 and 1x1 convolutions beside a projection."""

    def __init__(self) -> None:
        super().__init__()
        inner, outer = ROOT_CHANNELS, BLOCK_CHANNELS
        self.conv1 = StandardisedConv(inner, inner, 1)
        self.gn1 = nn.GroupNorm(32, inner, eps=1e-4)
        self.conv2 = StandardisedConv(inner, inner, 3)
        self.gn2 = nn.GroupNorm(32, inner, eps=1e-4)
        self.conv3 = StandardisedConv(inner, outer, 1)
        self.gn3 = nn.GroupNorm(32, outer, eps=1e-4)
        self.conv_proj = StandardisedConv(inner, outer, 1)
        self.gn_proj = nn.GroupNorm(32, outer, eps=1e-4)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        inner = F.relu(self.gn1(self.conv1(x_BCHW)))
        inner = F.relu(self.gn2(self.conv2(inner)))
        return F.relu(self.gn3(self.conv3(inner)) + self.gn_proj(self.conv_proj(x_BCHW)))


class Attention(nn.Module):
    """Self-attention of HEADS heads over all patches of all scales."""

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
        mixed_BHLK = F.scaled_dot_product_attention(query, key, value)
        mixed_BLD: torch.Tensor = self.out(mixed_BHLK.transpose(1, 2).flatten(2))
        return mixed_BLD


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
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = Mlp()

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        x_BLD = x_BLD + self.attention(self.norm1(x_BLD))
        x_BLD = x_BLD + self.mlp(self.norm2(x_BLD))
        return x_BLD


class SpatialEmbedding(nn.Module):
    """A learned vector for each place of the GRID x GRID hash."""

    def __init__(self) -> None:
        super().__init__()
        self.position_emb = nn.Parameter(torch.zeros(1, GRID * GRID, WIDTH))

    def forward(self, places_L: torch.Tensor) -> torch.Tensor:
        return self.position_emb[0, places_L]


class ScaleEmbedding(nn.Module):
    """A learned vector for each scale, the own size last."""

    def __init__(self) -> None:
        super().__init__()
        self.scale_emb = nn.Parameter(torch.zeros(len(LONGER_SIDES) + 1, WIDTH))

    def forward(self, scales_L: torch.Tensor) -> torch.Tensor:
        return self.scale_emb[scales_L]


class Encoder(nn.Module):
    """The transformer over the patches' vectors and one more, whose output sums up the picture."""

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
        self, x_BLD: torch.Tensor, places_L: torch.Tensor, scales_L: torch.Tensor
    ) -> torch.Tensor:
        """summary_BD of patches x_BLD at those hashed places of those scales."""
        x_BLD = x_BLD + self.posembed_input(places_L) + self.scaleembed_input(scales_L)
        x_BLD = torch.cat([self.cls.expand(len(x_BLD), -1, -1), x_BLD], dim=1)
        for block in self.transformer.values():
            x_BLD = block(x_BLD)
        summary_BD: torch.Tensor = self.encoder_norm(x_BLD[:, 0])
        return summary_BD


class Musiq(nn.Module):
    """Quality, 0 to 100 on SPAQ's scale, of pictures of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_root = StandardisedConv(3, ROOT_CHANNELS, 7, 2)
        self.gn_root = nn.GroupNorm(32, ROOT_CHANNELS, eps=1e-6)
        self.block1 = Bottleneck()
        self.embedding = nn.Linear(BLOCK_CHANNELS * (PATCH // 4) ** 2, WIDTH)
        self.transformer_encoder = Encoder()
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, pictures_BCHW: torch.Tensor) -> torch.Tensor:
        """quality_B of RGB pictures in 0..1."""
        pictures_BCHW = (pictures_BCHW - 0.5) * 2
        scales = [resize_longer(pictures_BCHW, side) for side in LONGER_SIDES]
        patches, places, numbers = [], [], []
        for number, scaled_BCHW in enumerate([*scales, pictures_BCHW]):
            patches_BNCHW, grid = patches_of(scaled_BCHW)
            patches.append(patches_BNCHW)
            places.append(hashed_places(*grid))
            numbers.append(torch.full((grid[0] * grid[1],), number))
        summary_BD = self.transformer_encoder(
            self._embed(torch.cat(patches, dim=1)),
            torch.cat(places).to(pictures_BCHW.device),
            torch.cat(numbers).to(pictures_BCHW.device),
        )
        quality_B: torch.Tensor = self.head(summary_BD)[:, 0]
        return quality_B

    def _embed(self, patches_BNCHW: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.gn_root(self.conv_root(patches_BNCHW.flatten(0, 1))))
        # After a ReLU a border of zeros is as good as the "SAME" pooling's border of -infinity.
        x = self.block1(F.max_pool2d(pad_same(x, 3, 2), 3, 2))
        x_BND = x.permute(0, 2, 3, 1).reshape(*patches_BNCHW.shape[:2], -1)
        vectors_BND: torch.Tensor = self.embedding(x_BND)
        return vectors_BND


def resize_longer(pictures_BCHW: torch.Tensor, longer: int) -> torch.Tensor:
    """Pictures with that longer side and their own aspect ratio, smaller or larger than before."""
    height, width = pictures_BCHW.shape[-2:]
    ratio = longer / max(height, width)
    size = (round(height * ratio), round(width * ratio))
    return F.interpolate(pictures_BCHW, size=size, mode="bicubic", align_corners=False)


def patches_of(pictures_BCHW: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """patches_BNCHW, row by row, and how many there are down and across.

    Upstream fills the smaller scales up to a fixed number of patches and masks what it filled in;
    masked patches change nothing, so there are none here.
    """
    padded_BCHW = pad_same(pictures_BCHW, PATCH, PATCH)
    grid = (padded_BCHW.shape[-2] // PATCH, padded_BCHW.shape[-1] // PATCH)
    cut = padded_BCHW.reshape(-1, 3, grid[0], PATCH, grid[1], PATCH)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2), grid


def hashed_places(down: int, across: int) -> torch.Tensor:
    """places_L, int64: the place of each patch of a grid in the GRID x GRID hash, row by row."""
    rows, columns = (
        F.interpolate(torch.arange(GRID).float()[None, None], size=count, mode="nearest")[0, 0]
        for count in (down, across)
    )
    return (rows[:, None] * GRID + columns[None, :]).flatten().long()
