"""The transformer shared by CLIP's image encoder and ViCLIP's encoders (openai/CLIP, MIT).

Parameters are named as in the released weights: ``resblocks.0.attn.in_proj_weight`` and so on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_WIDTH = 64
"""Width of one attention head, in all these networks."""


class Transformer(nn.Module):
    """Pre-norm residual blocks over tokens_BLD; ``causal`` masks attention to later tokens."""

    def __init__(self, width: int, layers: int, *, causal: bool = False) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(TransformerBlock(width, causal) for _ in range(layers))

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        for block in self.resblocks:
            tokens_BLD = block(tokens_BLD)
        return tokens_BLD


class LayerNorm(nn.LayerNorm):
    """Layer norm computed in float32; the output has the input's type."""

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        return super().forward(tokens_BLD.float()).to(tokens_BLD.dtype)


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer, each with a preceding norm and a residual connection."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.attn = SelfAttention(width, causal)
        self.ln_1 = LayerNorm(width)
        self.mlp = FeedForward(width)
        self.ln_2 = LayerNorm(width)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        tokens_BLD = tokens_BLD + self.attn(self.ln_1(tokens_BLD))
        out_BLD: Tensor = tokens_BLD + self.mlp(self.ln_2(tokens_BLD))
        return out_BLD


class SelfAttention(nn.Module):
    """Multi-head self-attention with the parameter names of ``nn.MultiheadAttention``."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = width // HEAD_WIDTH, causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        packed = F.linear(tokens_BLD, self.in_proj_weight, self.in_proj_bias)
        q, k, v = (
            part_BLD.reshape(*part_BLD.shape[:2], self.heads, HEAD_WIDTH).transpose(1, 2)
            for part_BLD in packed.chunk(3, dim=-1)
        )
        heads_BHLE = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.out_proj(heads_BHLE.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Two linear layers with CLIP's approximation of GELU in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        hidden_BLD = self.c_fc(tokens_BLD)
        out: Tensor = self.c_proj(hidden_BLD * torch.sigmoid(1.702 * hidden_BLD))
        return out
