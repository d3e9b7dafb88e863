"""Denoise with any transformer that is called as in training, in the place of diffusers' pipeline.

A backbone whose transformer has another signature in diffusers has a subclass with Wan's for
training; its own pipeline would call that wrongly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

_OnStep = Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class DenoisedLatents:
    """Normalized latents_BCTHW, fp32; ``frames`` is diffusers' name for them."""

    frames: torch.Tensor


@dataclass
class VelocityPipeline:
    """A transformer that predicts noise - x0, its VAE, and a scheduler of flow matching.

    ``transformer`` is replaced where it guides itself. ``vae_stride``: frames, rows and columns of
    video per latent.
    """

    transformer: Any
    vae: Any
    scheduler: Any
    vae_stride: tuple[int, int, int]

    @torch.no_grad()
    def __call__(
        self,
        *,
        prompt_embeds: torch.Tensor,
        guidance_scale: float,
        width: int,
        height: int,
        num_frames: int,
        num_inference_steps: int,
        generator: torch.Generator,
        output_type: str = "latent",
        negative_prompt_embeds: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
        callback_on_step_end: _OnStep | None = None,
    ) -> DenoisedLatents:
        """Denoise noise that ``generator`` draws on the CPU, or ``latents``; arguments as Wan's.

        The guided velocity is v_neg + guidance (v - v_neg). Only the transformer's inputs have its
        dtype.
        """
        assert output_type == "latent", "frames are decoded by the backbone's interface"
        in_time, rows, columns = self.vae_stride
        shape = (
            len(prompt_embeds),
            self.transformer.config.in_channels,
            (num_frames - 1) // in_time + 1,
            height // rows,
            width // columns,
        )
        device, dtype = prompt_embeds.device, self.transformer.dtype
        if latents is None:
            latents = torch.randn(shape, generator=generator)
        latents = latents.to(device, torch.float32)
        texts = [prompt_embeds.to(dtype)]
        if guidance_scale > 1:
            assert negative_prompt_embeds is not None, "guidance needs a negative prompt"
            texts.append(negative_prompt_embeds.to(dtype))
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        for index, timestep in enumerate(self.scheduler.timesteps):
            velocities = [
                self.transformer(
                    hidden_states=latents.to(dtype),
                    timestep=timestep.expand(len(latents)),
                    encoder_hidden_states=text_BLD,
                    return_dict=False,
                )[0].float()
                for text_BLD in texts
            ]
            velocity_BCTHW = velocities[0]
            if len(velocities) == 2:
                negative_BCTHW = velocities[1]
                velocity_BCTHW = negative_BCTHW + guidance_scale * (velocity_BCTHW - negative_BCTHW)
            latents = self.scheduler.step(velocity_BCTHW, timestep, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                changed = callback_on_step_end(self, index, timestep, {"latents": latents})
                latents = changed["latents"]
        return DenoisedLatents(latents)
