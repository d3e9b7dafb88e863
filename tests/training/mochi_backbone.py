"""A backbone of another architecture: Mochi's transformer, small and random, with Wan's call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import MochiTransformer3DModel

from mimix_core.wan import wan_interface
from mimix_core.wan.model_registry import TINY, NetworkSpec


class Mochi(MochiTransformer3DModel):
    """Mochi's time runs from noise to data, so does its velocity; it wants a mask of the text."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        return_dict: bool = False,
    ) -> Any:
        text_BLD = encoder_hidden_states[:, : self.config.max_sequence_length]
        (velocity,) = super().forward(
            hidden_states=hidden_states,
            encoder_hidden_states=text_BLD,
            timestep=1000 - timestep,
            encoder_attention_mask=text_BLD.ne(0).any(dim=-1),
            return_dict=False,
        )
        return (-velocity,)


def load(folder: Path, dtype: torch.dtype) -> Mochi:
    found: Mochi = Mochi.from_pretrained(folder, torch_dtype=dtype).requires_grad_(False)
    return found


INTERFACE = replace(wan_interface.INTERFACE, load_transformer=load)

ENTRY = replace(
    TINY,
    name="small-random-mochi",
    transformer=NetworkSpec(
        "MochiTransformer3DModel",
        {
            "patch_size": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "num_layers": 2,
            "pooled_projection_dim": 16,
            "in_channels": 16,
            "text_embed_dim": 32,
            "time_embed_dim": 16,
            "max_sequence_length": 16,
        },
    ),
    lora_targets=("to_q", "to_v", "ff.net.2"),
    interface_module=__name__,
)


def build(folder: Path) -> Path:
    """Random weights of the entry's size, as diffusers saves them."""
    torch.manual_seed(0)
    MochiTransformer3DModel(**ENTRY.transformer.config).save_pretrained(folder)
    return folder
