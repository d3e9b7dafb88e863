"""Classifier-free guidance in one forward pass of two samples; diffusers runs two passes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn


class BatchedCFG(nn.Module):
    """Transformer wrapper that returns the guided velocity: v = v_neg + guidance (v - v_neg).

    It replaces the transformer in a pipeline that runs with a guidance scale of 1, so each step has
    one call. The arithmetic is that of WanPipeline.
    """

    def __init__(self, transformer: Any, negative_1LD: torch.Tensor, guidance_scale: float) -> None:
        super().__init__()
        self.transformer = transformer
        self.negative_1LD = negative_1LD
        self.guidance_scale = guidance_scale

    @property
    def config(self) -> Any:
        return self.transformer.config

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.transformer.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        device: torch.device = self.transformer.device
        return device

    def cache_context(self, name: str, **step: Any) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self.transformer.cache_context(name, **step)
        return context

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = False,
    ) -> tuple[torch.Tensor]:
        """Compute the guided velocity_BCTHW for latents, timesteps [B] or [B, L] and text_BLD."""
        text_BLD = encoder_hidden_states
        negative_BLD = self.negative_1LD.to(text_BLD).expand_as(text_BLD)
        velocity_BCTHW, negative_BCTHW = self.transformer(
            hidden_states=torch.cat([hidden_states, hidden_states]),
            timestep=torch.cat([timestep, timestep]),
            encoder_hidden_states=torch.cat([text_BLD, negative_BLD]),
            attention_kwargs=attention_kwargs,
            return_dict=False,
        )[0].chunk(2)
        return (negative_BCTHW + self.guidance_scale * (velocity_BCTHW - negative_BCTHW),)
