"""Registry of the text-to-video models that MiMix can adapt: sizes as data, code as functions.

Numbers are those of the published configs (diffusers' ``scripts/convert_wan_to_diffusers.py``,
Wan's ``wan/configs``). Another size of Wan is one more entry of ``BACKBONES``. Another architecture
is an entry (``ltx_backbones``) and a module with its ``BackboneInterface`` (``ltx_interface``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from mimix_core.engine.extensions import is_module_name, load_extension
from mimix_core.errors import BadInput
from mimix_core.wan import ltx_backbones
from mimix_core.wan.backbone import (
    EXPERT_COMPONENTS,
    FULL_RANGE,
    Backbone,
    BackboneInterface,
    Expert,
    NetworkSpec,
    NoiseRange,
    Precision,
)

__all__ = [
    "BACKBONES",
    "EXPERT_COMPONENTS",
    "FULL_RANGE",
    "TINY",
    "TINY_EXPERTS",
    "Backbone",
    "BackboneInterface",
    "Expert",
    "NetworkSpec",
    "NoiseRange",
    "Precision",
    "get_backbone",
    "load_interface",
]


def load_interface(backbone: Backbone) -> BackboneInterface:
    """Load the interface of a backbone; imports torch."""
    interface = import_module(backbone.interface_module).INTERFACE
    assert isinstance(interface, BackboneInterface)
    return interface


def get_backbone(name: str) -> Backbone:
    """Return a backbone by its name, or by the dotted name of a module from outside MiMix.

    Raises BadInput for an unknown name, and for a module whose ``BACKBONE`` has another name.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if not is_module_name(name):
        raise BadInput(
            f"unknown backbone {name!r}",
            where="settings, key backbone.name",
            fix=f"Available backbones: {', '.join(sorted(BACKBONES))}.",
        )
    backbone = load_extension(name, "BACKBONE", Backbone, setting="backbone.name")
    if backbone.name != name:
        raise BadInput(
            f"the backbone of module {name} is named {backbone.name}",
            where="settings, key backbone.name",
            fix="Give it the dotted name of its module.",
        )
    return backbone


def _wan(
    name: str,
    hub_id: str | None,
    *,
    layers: int,
    heads: int,
    head_width: int = 128,
    ffn: int,
    frequencies: int = 256,
    channels: int = 16,
    vae: Mapping[str, Any],
    side: int = 8,
    text: Mapping[str, Any],
    flow_shift: float = 5.0,
    expand_timesteps: bool = False,
    boundary: float | None = None,
    frame_rate: int = 16,
) -> Backbone:
    """Build the entry for a size of Wan; the defaults are those of all published sizes."""
    return Backbone(
        name=name,
        hub_id=hub_id,
        transformer=NetworkSpec(
            "WanTransformer3DModel",
            {
                "num_layers": layers,
                "num_attention_heads": heads,
                "attention_head_dim": head_width,
                "ffn_dim": ffn,
                "freq_dim": frequencies,
                "in_channels": channels,
                "out_channels": channels,
                "patch_size": (1, 2, 2),
                "text_dim": text["d_model"],
            },
        ),
        vae=NetworkSpec("AutoencoderKLWan", {"z_dim": channels, **vae}),
        text_encoder=NetworkSpec("UMT5EncoderModel", text),
        vae_stride=(4, side, side),
        flow_shift=flow_shift,
        lora_targets=("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"),
        interface_module="mimix_core.wan.wan_interface",
        pipeline_class="WanPipeline",
        expand_timesteps=expand_timesteps,
        boundary=boundary,
        frame_rate=frame_rate,
    )


_UMT5_XXL = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
}
_TINY_TEXT = {
    "vocab_size": 512,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 2,
}
_VAE_2_1 = {"base_dim": 96, "num_res_blocks": 2}
# 2 x 2 pixels become channels before the first layer, and each block has a shortcut.
_VAE_2_2 = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "num_res_blocks": 2,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
}

TINY = _wan(
    "tiny-random-wan",
    None,
    layers=2,
    heads=4,
    head_width=24,
    ffn=192,
    frequencies=64,
    vae={"base_dim": 4, "num_res_blocks": 1},
    text=_TINY_TEXT,
)

TINY_EXPERTS = replace(TINY, name="tiny-random-wan-experts", flow_shift=12.0, boundary=0.875)
"""Two experts of the tiny model's size."""

BACKBONES: Mapping[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        _wan(
            "wan2.1-t2v-14b",
            "Wan-AI/Wan2.1-T2V-14B-Diffusers",
            layers=40,
            heads=40,
            ffn=13824,
            vae=_VAE_2_1,
            text=_UMT5_XXL,
        ),
        _wan(
            "wan2.1-t2v-1.3b",
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
            layers=30,
            heads=12,
            ffn=8960,
            vae=_VAE_2_1,
            text=_UMT5_XXL,
        ),
        # Text-to-video and image-to-video. Without a first frame, its per-token timesteps are all
        # equal, which is equivalent to a single timestep: it trains and samples like the others.
        # Wan's wan/configs/wan_ti2v_5B.py: sample_fps 24, frame_num 121.
        _wan(
            "wan2.2-ti2v-5b",
            "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
            layers=30,
            heads=24,
            ffn=14336,
            channels=48,
            vae=_VAE_2_2,
            side=16,
            text=_UMT5_XXL,
            expand_timesteps=True,
            frame_rate=24,
        ),
        # Two transformers of the 14B's size (Wan's wan/configs/wan_t2v_A14B.py: boundary 0.875,
        # sample_shift 12).
        _wan(
            "wan2.2-t2v-a14b",
            "Wan-AI/Wan2.2-T2V-A14B-Diffusers",
            layers=40,
            heads=40,
            ffn=13824,
            vae=_VAE_2_1,
            text=_UMT5_XXL,
            flow_shift=12.0,
            boundary=0.875,
        ),
        ltx_backbones.LTX_VIDEO,
        TINY,
        TINY_EXPERTS,
        ltx_backbones.TINY_LTX,
    )
}
