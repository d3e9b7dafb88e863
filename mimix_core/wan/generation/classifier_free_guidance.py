"""Classifier-free guidance within the transformer: batched, or shared by two processes.

diffusers' pipeline runs its two passes one after the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import distributed, nn


class GuidedTransformer(nn.Module, ABC):
    """Transformer wrapper that returns the guided velocity: v = v_neg + guidance (v - v_neg).

    It replaces the transformer in a pipeline that runs with a guidance scale of 1, so each step has
    one call. The arithmetic is that of WanPipeline. Subclasses compute the two velocities.
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
        velocity_BCTHW, negative_BCTHW = self.predict_both(
            hidden_states,
            timestep,
            encoder_hidden_states,
            self.negative_1LD.to(encoder_hidden_states).expand_as(encoder_hidden_states),
            attention_kwargs,
        )
        return (negative_BCTHW + self.guidance_scale * (velocity_BCTHW - negative_BCTHW),)

    @abstractmethod
    def predict_both(
        self,
        latents_BCTHW: torch.Tensor,
        timestep: torch.Tensor,
        text_BLD: torch.Tensor,
        negative_BLD: torch.Tensor,
        attention_kwargs: dict[str, Any] | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the velocities_BCTHW for the text and for the negative text."""


class BatchedCFG(GuidedTransformer):
    """Guidance in one forward pass of two samples."""

    def predict_both(
        self,
        latents_BCTHW: torch.Tensor,
        timestep: torch.Tensor,
        text_BLD: torch.Tensor,
        negative_BLD: torch.Tensor,
        attention_kwargs: dict[str, Any] | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        velocity_BCTHW, negative_BCTHW = self.transformer(
            hidden_states=torch.cat([latents_BCTHW, latents_BCTHW]),
            timestep=torch.cat([timestep, timestep]),
            encoder_hidden_states=torch.cat([text_BLD, negative_BLD]),
            attention_kwargs=attention_kwargs,
            return_dict=False,
        )[0].chunk(2)
        return velocity_BCTHW, negative_BCTHW


class ParallelCFG(GuidedTransformer):
    """Guidance by two processes, each of which computes one pass and gets the other's result.

    ``group``: the two; ``branch``: 0 in the process that computes the prompt's velocity, 1 in the
    one that computes the negative prompt's.
    """

    def __init__(
        self,
        transformer: Any,
        negative_1LD: torch.Tensor,
        guidance_scale: float,
        group: distributed.ProcessGroup,
        branch: int,
    ) -> None:
        super().__init__(transformer, negative_1LD, guidance_scale)
        self.group = group
        self.branch = branch

    def predict_both(
        self,
        latents_BCTHW: torch.Tensor,
        timestep: torch.Tensor,
        text_BLD: torch.Tensor,
        negative_BLD: torch.Tensor,
        attention_kwargs: dict[str, Any] | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own_BCTHW = self.transformer(
            hidden_states=latents_BCTHW,
            timestep=timestep,
            encoder_hidden_states=(text_BLD, negative_BLD)[self.branch],
            attention_kwargs=attention_kwargs,
            return_dict=False,
        )[0].contiguous()
        both = [torch.empty_like(own_BCTHW) for _ in range(2)]
        distributed.all_gather(both, own_BCTHW, group=self.group)
        return both[0], both[1]
