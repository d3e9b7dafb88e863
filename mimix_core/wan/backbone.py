"""Define a text-to-video model: its sizes as data, and the functions by which MiMix uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mimix_core.settings.training_settings import ExpertName
from mimix_core.wan.generation.sampling import decode_latents

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


UNIPC_FLOW = NetworkSpec(
    "UniPCMultistepScheduler",
    {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "num_train_timesteps": 1000},
)
"""Wan's scheduler; the defaults of its config are another objective's."""

MAX_TEXT_TOKENS = 512
"""Length to which embeddings are padded, the maximum tokens of a text in Wan."""


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
    the videos that it was trained on, as published; None for a model that is told the rate.
    ``scheduler``: the class of its scheduler and what generation reads from its config.
    ``other_pipelines``: classes besides ``pipeline_class`` that its folder may name, with the same
    components. ``text_tokens``: maximum tokens of a text, at most 512.
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
    frame_rate: int | None = 16
    scheduler: NetworkSpec = UNIPC_FLOW
    other_pipelines: tuple[str, ...] = ()
    text_tokens: int = MAX_TEXT_TOKENS

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
    def patch(self) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of a token.

        diffusers' configs have them as one triple (Wan), or as a side and perhaps ``patch_size_t``.
        """
        config = self.transformer.config
        side = config["patch_size"]
        if isinstance(side, int):
            return config.get("patch_size_t", 1), side, side
        in_time, rows, columns = side
        return in_time, rows, columns

    @property
    def size_multiple(self) -> int:
        """Return what width and height must be multiples of: VAE stride times patch side."""
        return self.vae_stride[1] * self.patch[1]

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

    ``decode_latents(vae, latents_BCTHW)`` returns the uint8 RGB frames_THWC of the first video, and
    raises ValueError for non-finite values. ``load_scheduler(folder, shift)`` returns a scheduler
    of diffusers with ``set_timesteps(steps, device=...)``, ``timesteps`` and ``step``. With it,
    videos are generated by MiMix's own loop, which calls the transformer as training does
    (``generation.velocity_pipeline``). None: by diffusers' pipeline ``Backbone.pipeline_class``,
    which then has to call it that way, with UniPC.
    """

    load_vae: Callable[[Path, torch.device, Precision], Any]
    encode_frames: Callable[[Any, NDArray[np.uint8]], torch.Tensor]
    load_tokenizer: Callable[[Path], Any]
    tokenize: Callable[[Any, Sequence[str]], list[list[int]]]
    load_text_encoder: Callable[[Path, torch.device], Any]
    embed_tokens: Callable[[Any, Sequence[Sequence[int]]], list[torch.Tensor]]
    load_transformer: Callable[[Path, torch.dtype], Any]
    decode_latents: Callable[[Any, torch.Tensor], NDArray[np.uint8]] = decode_latents
    load_scheduler: Callable[[Path, float], Any] | None = None
