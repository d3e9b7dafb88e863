"""Flow matching as Wan2.1 defines it (the rules in diffusers' and Wan's own code agree).

x_t = (1 - s) x0 + s noise; the network predicts v = noise - x0; s' = shift s / (1 + (shift - 1) s);
the timestep it is told is 1000 s', in fp32.

A sample's noise level comes from a quantile in 0..1, which training stratifies over its global
batch (``training.data``); its noise from a generator keyed by what it is for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Literal

import torch

from mimix_core.engine.torch_runtime import seeded_generator

TEXT_TOKENS = 512
_VALIDATION = "validation"
_TRAINING = "training"
# Levels by which a weighting's mean is found: as many as Wan has timesteps.
_LEVELS = 1000


@dataclass(frozen=True)
class Levels:
    """How training chooses noise levels: a distribution of s, then the shift."""

    timesteps: Literal["uniform", "logit_normal"]
    shift: float
    logit_mean: float = 0.0
    logit_std: float = 1.0

    def at(self, quantile: float) -> float:
        """The level s' below which that share of the distribution lies; ``quantile`` in (0, 1)."""
        if self.timesteps == "uniform":
            return shifted(quantile, self.shift)
        logit = NormalDist(self.logit_mean, self.logit_std).inv_cdf(quantile)
        return shifted(1 / (1 + math.exp(-logit)), self.shift)


def shifted(sigma: float, shift: float) -> float:
    """s' of a level s in 0..1: a shift above 1 moves levels towards pure noise."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def weight(sigma: float, weighting: Literal["none", "bell"], levels: Levels) -> float:
    """The weight of the loss at level s', 1 in the mean over ``levels``.

    ``bell`` is DiffSynth-Studio's (``FlowMatchScheduler.set_training_weight``):
    exp(-2 (s' - 1/2)^2), less its value at pure noise, where it is then 0.
    """
    return 1.0 if weighting == "none" else _bell(sigma) / _mean_bell(levels)


def _bell(sigma: float) -> float:
    return math.exp(-2 * (sigma - 0.5) ** 2) - math.exp(-0.5)


@lru_cache
def _mean_bell(levels: Levels) -> float:
    middles = [(index + 0.5) / _LEVELS for index in range(_LEVELS)]
    return math.fsum(_bell(levels.at(middle)) for middle in middles) / _LEVELS


def training_noise(seed: int, epoch: int, sample_id: str, shape: torch.Size) -> torch.Tensor:
    """noise_CTHW of a sample in an epoch, by its key alone: any process makes it again any time."""
    return torch.randn(shape, generator=seeded_generator(seed, _TRAINING, epoch, sample_id))


def validation_sigmas(count: int, shift: float) -> list[float]:
    """Fixed levels: the middles of ``count`` equal parts of the shifted uniform distribution.

    Not of the distribution that training draws from: runs that differ in it stay comparable.
    """
    return [shifted((index + 0.5) / count, shift) for index in range(count)]


def validation_noise(seed: int, sample_id: str, shape: torch.Size) -> torch.Tensor:
    """The noise a held-out sample gets every time it is looked at."""
    return torch.randn(shape, generator=seeded_generator(seed, _VALIDATION, sample_id))


def pad_text(texts_LD: list[torch.Tensor]) -> torch.Tensor:
    """text_BLD with L = 512: zeros after each text's end."""
    return torch.stack(
        [torch.nn.functional.pad(text, (0, 0, 0, TEXT_TOKENS - len(text))) for text in texts_LD]
    )


def losses(
    transformer: Any,
    latents_BCTHW: torch.Tensor,
    text_BLD: torch.Tensor,
    sigma_B: torch.Tensor,
    noise_BCTHW: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Each sample's mean squared error of the predicted velocity, fp32 [B].

    Latents, noise and sigma come in fp32; only what enters the network is cast to ``dtype``, and
    never the timestep (bf16 knows 294 of its 1000 levels).
    """
    sigma_B1111 = sigma_B.view(-1, 1, 1, 1, 1)
    noised_BCTHW = (1 - sigma_B1111) * latents_BCTHW + sigma_B1111 * noise_BCTHW
    velocity_BCTHW = transformer(
        hidden_states=noised_BCTHW.to(dtype),
        timestep=1000 * sigma_B,
        encoder_hidden_states=text_BLD.to(dtype),
        return_dict=False,
    )[0]
    error_BCTHW = velocity_BCTHW.float() - (noise_BCTHW - latents_BCTHW)
    loss_B: torch.Tensor = error_BCTHW.square().flatten(1).mean(dim=1)
    return loss_B
