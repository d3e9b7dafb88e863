"""Sizes of the networks of ``miniature-wan``; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FLOW_SHIFT = 3.0
VAE_STRIDE = (4, 8, 8)


@dataclass(frozen=True)
class Sizes:
    """Sizes of the networks; the defaults are those of ``miniature-wan``."""

    heads: int = 6
    head_width: int = 64
    layers: int = 8
    ffn: int = 1536
    text_width: int = 256
    channels: int = 16
    vae_width: int = 32
    vae_decoder_width: int = 64
    vae_widths: tuple[int, ...] = (1, 2, 2)

    def transformer_config(self) -> Mapping[str, Any]:
        return {
            "patch_size": (1, 1, 1),
            "num_attention_heads": self.heads,
            "attention_head_dim": self.head_width,
            "in_channels": self.channels,
            "out_channels": self.channels,
            "text_dim": self.text_width,
            "freq_dim": 256,
            "ffn_dim": self.ffn,
            "num_layers": self.layers,
            "rope_max_seq_len": 128,
        }

    def vae_config(self) -> Mapping[str, Any]:
        # 2 x 2 pixels become channels before the first layer, so 4 x 8 x 8 needs two more halvings.
        return {
            "base_dim": self.vae_width,
            "decoder_base_dim": self.vae_decoder_width,
            "z_dim": self.channels,
            "dim_mult": list(self.vae_widths),
            "num_res_blocks": 1,
            "temperal_downsample": [True, True],
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "scale_factor_spatial": 8,
        }


TINY = Sizes(
    heads=2, head_width=24, layers=2, ffn=96, text_width=32, vae_width=8, vae_decoder_width=8
)
