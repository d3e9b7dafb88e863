"""Compute held-out losses at fixed noise levels with fixed noise, comparable between steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from mimix_core.settings import LoraSettings
from mimix_core.training.forgetting import shows_old_characters_only
from mimix_core.training.sample_schedule import load_sample
from mimix_core.training.worker_messages import TrainingSample, TrainingStopped
from mimix_core.wan import flow_matching
from mimix_core.wan.model_registry import FULL_RANGE, NoiseRange

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
    levels: NoiseRange = FULL_RANGE,
) -> torch.Tensor:
    """Compute loss_SQ (fp64, CPU): each sample's loss at each of ``validation_quantiles`` levels.

    ``levels``: the range that they are in. The samples are distributed over the processes; every
    process gets the complete result. A forward pass takes up to ``micro_batch_size`` levels of a
    sample. Raises TrainingStopped before a forward pass, in all processes at the same one.
    """
    from mimix_core.training.distributed import any_rank

    sigmas = flow_matching.validation_sigmas(settings.validation_quantiles, settings.shift, levels)
    size = min(settings.micro_batch_size, len(sigmas))
    loss_SQ = torch.zeros(len(samples), len(sigmas), dtype=torch.float64, device=context.device)
    transformer.eval()
    for round_index in range(math.ceil(len(samples) / context.world_size)):
        number = round_index * context.world_size + context.rank
        # With ZeRO 3 a forward pass needs all processes; spare ones repeat the last sample.
        sample = samples[min(number, len(samples) - 1)]
        latents_CTHW, text_LD = load_sample(sample)
        noise_CTHW = flow_matching.draw_validation_noise(
            settings.seed, sample.sample_id, latents_CTHW.shape
        )
        latents_BCTHW = _repeat(latents_CTHW.to(context.device), size)
        noise_BCTHW = _repeat(noise_CTHW.to(context.device), size)
        text_BLD = _repeat(flow_matching.pad_embeddings([text_LD])[0].to(context.device), size)
        for first in range(0, len(sigmas), size):
            if any_rank(stop_requested(), context):
                transformer.train()
                raise TrainingStopped(
                    f"in a validation, {round_index * len(sigmas) + first} levels done"
                )
            indices = list(range(first, min(first + size, len(sigmas))))
            # Every pass has the same shape, or the compiled blocks would be compiled again.
            padded = indices + indices[-1:] * (size - len(indices))
            loss_B = flow_matching.velocity_losses(
                transformer,
                latents_BCTHW,
                text_BLD,
                torch.tensor([sigmas[index] for index in padded], device=context.device),
                noise_BCTHW,
                context.dtype,
            )
            if number < len(samples):
                loss_SQ[number, indices] = loss_B[: len(indices)].double()
    transformer.train()
    if context.world_size > 1:
        torch.distributed.all_reduce(loss_SQ)
    return loss_SQ.cpu()


def _repeat(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """Return ``count`` views of the tensor along a new first dimension."""
    return tensor[None].expand(count, *tensor.shape)


def mean_interval(loss_S: torch.Tensor) -> tuple[float, float] | None:
    """Compute the 95 % interval of the mean loss of all held-out samples; these are some of them.

    From Student's t distribution; None for fewer than two samples.
    """
    from scipy import stats

    if len(loss_S) < 2:
        return None
    error = float(loss_S.std()) / math.sqrt(len(loss_S))
    reach = float(stats.t.ppf(0.975, len(loss_S) - 1)) * error
    return float(loss_S.mean()) - reach, float(loss_S.mean()) + reach


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


def mean_loss_by_old_character(
    samples: Sequence[TrainingSample], losses: Sequence[float], new_characters: Collection[str]
) -> dict[str, dict[str, float]]:
    """Compute the mean loss and number of samples of each old character, without a new one."""
    return _mean_losses(
        [
            (sample.characters, loss)
            for sample, loss in zip(samples, losses, strict=True)
            if shows_old_characters_only(sample, new_characters)
        ]
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
