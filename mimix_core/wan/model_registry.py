"""Every text-to-video model that MiMix can adapt: its sizes as data, its rules as functions.

Numbers are those of the published configs (diffusers' ``scripts/convert_wan_to_diffusers.py``,
Wan's ``wan/configs``). A further size of Wan is one more entry of ``BACKBONES``. A model of another
kind is an entry and a module with its ``Rules``: how its VAE makes latents of frames and its text
encoder embeddings of captions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mimix_core.errors import BadInput

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Network:
    """One network of a backbone: its class in diffusers or transformers, and its size.

    ``config``: what its ``config.json`` says of its size, and what one of this size is built with.
    """

    kind: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Backbone:
    """A text-to-video model. ``hub``: where it is published; None for one that is built here.

    ``vae_stride``: frames, rows and columns of a video for one of its latents. ``flow_shift``: of
    the timesteps it was made for. ``lora_targets``: the linear layers of each block that a LoRA
    sits on. ``rules``: the module that holds its ``RULES``.
    """

    name: str
    hub: str | None
    transformer: Network
    vae: Network
    text_encoder: Network
    vae_stride: tuple[int, int, int]
    flow_shift: float
    lora_targets: tuple[str, ...]
    rules: str
    pipeline: str

    @property
    def side_step(self) -> int:
        """Both sides of a video are multiples of it: the VAE's stride by the patch's side."""
        return int(self.vae_stride[1] * self.transformer.config["patch_size"][1])

    def misfit(self, frames: int, width: int, height: int) -> str | None:
        """Why a video of that size cannot become latents; None for one that can."""
        step = self.vae_stride[0]
        if frames % step != 1:
            return f"{frames} frames: {self.name} takes {step}k + 1"
        if width < 1 or height < 1 or width % self.side_step or height % self.side_step:
            return f"{width}x{height}: {self.name} takes multiples of {self.side_step}"
        return None


@dataclass(frozen=True)
class Rules:
    """How one kind of backbone makes latents and embeddings, and what predicts velocities.

    ``load_vae(folder, device, precision)``. ``encode(vae, frames_THWC)`` gives the normalised
    latents_CTHW, fp32, on the CPU. ``tokens(tokenizer, captions)`` gives the ids of each caption,
    end mark included, uncut. ``embed(encoder, ids)`` gives the text_LD of each, on the CPU.

    ``load_transformer(folder, dtype)`` gives the frozen model (of diffusers, so that peft can adapt
    it), called as ``objective.losses`` does: ``transformer(hidden_states=noised_BCTHW,
    timestep=1000 * sigma_B, encoder_hidden_states=text_BLD, return_dict=False)[0]`` is the velocity
    noise - x0. Wan's own takes just that; a model that wants other words gets a subclass.
    """

    load_vae: Callable[[Path, torch.device, Precision], Any]
    encode: Callable[[Any, NDArray[np.uint8]], torch.Tensor]
    load_tokenizer: Callable[[Path], Any]
    tokens: Callable[[Any, Sequence[str]], list[list[int]]]
    load_text_encoder: Callable[[Path, torch.device], Any]
    embed: Callable[[Any, Sequence[Sequence[int]]], list[torch.Tensor]]
    load_transformer: Callable[[Path, torch.dtype], Any]


def rules(backbone: Backbone) -> Rules:
    """The rules of a backbone; imports torch."""
    found = import_module(backbone.rules).RULES
    assert isinstance(found, Rules)
    return found


def get(name: str) -> Backbone:
    """The backbone of that name. Raises BadInput when there is none."""
    if name not in BACKBONES:
        raise BadInput(
            f"no backbone is named {name!r}",
            where="settings, key backbone.name",
            fix=f"Name one of {', '.join(sorted(BACKBONES))}.",
        )
    return BACKBONES[name]


def _wan(
    name: str,
    hub: str | None,
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
) -> Backbone:
    """An entry for a size of Wan; what is left out is the same in all published ones."""
    return Backbone(
        name=name,
        hub=hub,
        transformer=Network(
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
        vae=Network("AutoencoderKLWan", {"z_dim": channels, **vae}),
        text_encoder=Network("UMT5EncoderModel", text),
        vae_stride=(4, side, side),
        flow_shift=5.0,
        lora_targets=("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"),
        rules="mimix_core.wan.wan_adapter",
        pipeline="WanPipeline",
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
# Two pixels of a side become channels before the first layer, and each block has a shortcut.
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
        # Made for text and for a first frame. Without one its timestep is the same for all tokens,
        # which is what a single timestep means: it trains and samples as the others do.
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
        ),
        TINY,
    )
}
