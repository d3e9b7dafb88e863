"""Registry of the text-to-video models that MiMix can adapt: sizes as data, code as functions.

Numbers are those of the published configs (diffusers' ``scripts/convert_wan_to_diffusers.py``,
Wan's ``wan/configs``). Another size of Wan is one more entry of ``BACKBONES``. Another architecture
is an entry and a module with its ``BackboneInterface``: how its VAE encodes frames and its text
encoder embeds captions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mimix_core.engine.extensions import is_module_name, load_extension
from mimix_core.errors import BadInput
from mimix_core.settings.training_settings import ExpertName

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]

NoiseRange = tuple[float, float]
"""The lowest and the highest noise level at which a transformer predicts, in 0..1."""

FULL_RANGE: NoiseRange = (0.0, 1.0)


EXPERT_COMPONENTS: Mapping[ExpertName, str] = {
    "high-noise": "transformer",
    "low-noise": "transformer_2",
}
"""The folder of each expert's weights, and its name in diffusers' pipeline."""


@dataclass(frozen=True)
class NetworkSpec:
    """A network of a backbone: its class in diffusers or transformers, and its size.

    ``config``: the entries of its ``config.json`` that define the size; also the arguments that
    build a network of this size.
    """

    class_name: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Expert:
    """One of a backbone's two transformers, which predicts at a range of noise levels.

    ``component``: the folder of its weights.
    """

    name: ExpertName
    component: str
    levels: NoiseRange


@dataclass(frozen=True)
class Backbone:
    """A text-to-video model.

    ``hub_id``: its repository on the Hugging Face Hub; None for a model that is not there.
    ``make_command``: the command that writes such a model to ``FOLDER``; without it the model is
    built with random weights.
    ``vae_stride``: frames, rows and columns of video per latent. ``flow_shift``: the timestep shift
    that it was trained for. ``lora_targets``: the linear layers of each block that LoRA adapts.
    ``interface_module``: the module that defines its ``INTERFACE``. ``expand_timesteps``: its
    published pipeline has a timestep per token. ``boundary``: the noise level from which on
    ``transformer`` predicts, while ``transformer_2`` predicts below it (diffusers'
    ``boundary_ratio``); None for a model of one transformer. ``frame_rate``: frames per second of
    the videos that it was trained on, as published.
    """

    name: str
    hub_id: str | None
    transformer: NetworkSpec
    vae: NetworkSpec
    text_encoder: NetworkSpec
    vae_stride: tuple[int, int, int]
    flow_shift: float
    lora_targets: tuple[str, ...]
    interface_module: str
    pipeline_class: str
    make_command: str | None = None
    expand_timesteps: bool = False
    boundary: float | None = None
    frame_rate: int = 16

    @property
    def experts(self) -> tuple[Expert, ...]:
        """Return its experts, in the order in which they denoise; none for one transformer."""
        if self.boundary is None:
            return ()
        levels = {"high-noise": (self.boundary, 1.0), "low-noise": (0.0, self.boundary)}
        return tuple(
            Expert(name, component, levels[name]) for name, component in EXPERT_COMPONENTS.items()
        )

    def expert(self, name: str) -> Expert:
        """Return an expert by its name. Raises KeyError for a model without it."""
        experts: dict[str, Expert] = {expert.name: expert for expert in self.experts}
        return experts[name]

    @property
    def networks(self) -> dict[str, NetworkSpec]:
        """Return the class and size of each network, by the name of its folder."""
        transformers = [expert.component for expert in self.experts] or ["transformer"]
        return {
            **dict.fromkeys(transformers, self.transformer),
            "vae": self.vae,
            "text_encoder": self.text_encoder,
        }

    @property
    def components(self) -> tuple[str, ...]:
        """Return the names of all folders of the model, sorted."""
        return tuple(sorted({*self.networks, "scheduler", "tokenizer"}))

    def folder_command(self, folder: str = "FOLDER") -> str | None:
        """Return the command that gets the model's folder; None for one with random weights."""
        if self.hub_id is not None:
            return f"hf download {self.hub_id} --local-dir {folder}"
        return None if self.make_command is None else self.make_command.replace("FOLDER", folder)

    @property
    def size_multiple(self) -> int:
        """Return what width and height must be multiples of: VAE stride times patch side."""
        return int(self.vae_stride[1] * self.transformer.config["patch_size"][1])

    def size_error(self, frames: int, width: int, height: int) -> str | None:
        """Explain why a video of that size cannot be encoded; None if it can."""
        step = self.vae_stride[0]
        if frames % step != 1:
            return f"{frames} frames: {self.name} takes {step}k + 1"
        if width < 1 or height < 1 or width % self.size_multiple or height % self.size_multiple:
            return f"{width}x{height}: {self.name} takes multiples of {self.size_multiple}"
        return None


@dataclass(frozen=True)
class BackboneInterface:
    """The functions by which MiMix uses one architecture: VAE, text encoder and transformer.

    ``load_vae(folder, device, precision)``. ``encode_frames(vae, frames_THWC)`` returns the
    normalized latents_CTHW, fp32, on the CPU. ``tokenize(tokenizer, captions)`` returns the token
    ids of each caption, end token included, not truncated. ``embed_tokens(encoder, ids)`` returns
    the text_LD of each, on the CPU.

    ``load_transformer(folder, dtype)`` returns the frozen model (a diffusers model, which peft can
    adapt). It is called as in ``flow_matching.velocity_losses``:
    ``transformer(hidden_states=noised_BCTHW, timestep=1000 * sigma_B,
    encoder_hidden_states=text_BLD, return_dict=False)[0]`` is the velocity noise - x0. Wan's model
    has this signature; a model with another one needs a subclass.
    """

    load_vae: Callable[[Path, torch.device, Precision], Any]
    encode_frames: Callable[[Any, NDArray[np.uint8]], torch.Tensor]
    load_tokenizer: Callable[[Path], Any]
    tokenize: Callable[[Any, Sequence[str]], list[list[int]]]
    load_text_encoder: Callable[[Path, torch.device], Any]
    embed_tokens: Callable[[Any, Sequence[Sequence[int]]], list[torch.Tensor]]
    load_transformer: Callable[[Path, torch.dtype], Any]


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
        TINY,
        TINY_EXPERTS,
    )
}
