"""Compute held-out losses at fixed noise levels with fixed noise, comparable between steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from mimix_core.settings import LoraSettings
from mimix_core.training.sample_schedule import load_sample
from mimix_core.training.worker_messages import TrainingSample, TrainingStopped
from mimix_core.wan import flow_matching

if TYPE_CHECKING:
    from mimix_core.training.distributed import DistributedContext


def never_stop() -> bool:
    """Never request a stop."""
    return False


@torch.no_grad()
def validation_losses(
    transformer: Any,
    samples: Sequence[TrainingSample],
    settings: LoraSettings,
    context: DistributedContext,
    stop_requested: Callable[[], bool] = never_stop,
) -> torch.Tensor:
    """Compute loss_SQ (fp64, CPU): each sample's loss at each of ``validation_quantiles`` levels.

    The samples are distributed over the processes; every process gets the complete result. Raises
    TrainingStopped before a forward pass, in all processes at the same one.
    """
    from mimix_core.training.distributed import any_rank

    sigmas = flow_matching.validation_sigmas(settings.validation_quantiles, settings.shift)
    loss_SQ = torch.zeros(len(samples), len(sigmas), dtype=torch.float64, device=context.device)
    transformer.eval()
    for round_index in range(math.ceil(len(samples) / context.world_size)):
        index = round_index * context.world_size + context.rank
        # With ZeRO 3 a forward pass needs all processes; spare ones repeat the last sample.
        sample = samples[min(index, len(samples) - 1)]
        latents_CTHW, text_LD = load_sample(sample)
        noise_CTHW = flow_matching.draw_validation_noise(
            settings.seed, sample.sample_id, latents_CTHW.shape
        )
        latents_1CTHW = latents_CTHW[None].to(context.device)
        noise_1CTHW = noise_CTHW[None].to(context.device)
        text_1LD = flow_matching.pad_embeddings([text_LD]).to(context.device)
        for level, sigma in enumerate(sigmas):
            if any_rank(stop_requested(), context):
                transformer.train()
                raise TrainingStopped(
                    f"in a validation, {round_index * len(sigmas) + level} passes done"
                )
            loss_1 = flow_matching.velocity_losses(
                transformer,
                latents_1CTHW,
                text_1LD,
                torch.tensor([sigma], device=context.device),
                noise_1CTHW,
                context.dtype,
            )
            if index < len(samples):
                loss_SQ[index, level] = loss_1[0].double()
    transformer.train()
    if context.world_size > 1:
        torch.distributed.all_reduce(loss_SQ)
    return loss_SQ.cpu()


def mean_loss_by_style(
    samples: Sequence[TrainingSample], losses: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Compute the mean loss and number of samples of each style."""
    return _mean_losses(
        [((sample.style,), loss) for sample, loss in zip(samples, losses, strict=True)]
    )


def mean_loss_by_character(
    samples: Sequence[TrainingSample], losses: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Compute the mean loss and number of samples of each character in the samples."""
    return _mean_losses(
        [(tuple(sample.characters), loss) for sample, loss in zip(samples, losses, strict=True)]
    )


def _mean_losses(
    named_losses: Sequence[tuple[Sequence[str], float]],
) -> dict[str, dict[str, float]]:
    by_name: dict[str, list[float]] = {}
    for names, loss in named_losses:
        for name in sorted(set(names)):
            by_name.setdefault(name, []).append(loss)
    return {
        name: {"loss": sum(values) / len(values), "samples": len(values)}
        for name, values in sorted(by_name.items())
    }
