"""Held-out loss at fixed noise levels with fixed noise: comparable from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed

from mimix_core.settings import LoraSettings
from mimix_core.training.data import load
from mimix_core.training.job import Sample
from mimix_core.wan import objective


@torch.no_grad()
def held_out_losses(
    transformer: Any,
    samples: Sequence[Sample],
    settings: LoraSettings,
    device: torch.device,
    dtype: torch.dtype,
) -> list[float]:
    """Mean loss over ``samples`` at each of the ``validation_quantiles`` noise levels.

    The samples are shared out over the processes; every process gets the whole result.
    """
    rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    sigmas = objective.validation_sigmas(settings.validation_quantiles, settings.shift)
    total = torch.zeros(len(sigmas), dtype=torch.float64, device=device)
    transformer.eval()
    for sample in samples[rank::processes]:
        latents_CTHW, text_LD = load(sample)
        noise_CTHW = objective.validation_noise(settings.seed, sample.sample_id, latents_CTHW.shape)
        for index, sigma in enumerate(sigmas):
            loss_B = objective.losses(
                transformer,
                latents_CTHW[None].to(device),
                objective.pad_text([text_LD]).to(device),
                torch.tensor([sigma], device=device),
                noise_CTHW[None].to(device),
                dtype,
            )
            total[index] += loss_B[0].double()
    transformer.train()
    if processes > 1:
        torch.distributed.all_reduce(total)
    return [value / len(samples) for value in total.tolist()]
