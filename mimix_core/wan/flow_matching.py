"""Flow matching as Wan2.1 defines it (diffusers and Wan's own code agree).

x_t = (1 - s) x0 + s noise; the network predicts v = noise - x0; s' = shift s / (1 + (shift - 1) s);
its timestep is 1000 s', in fp32.

A sample's noise level is given by a quantile in 0..1, which training stratifies over the global
batch (``training.sample_schedule``). Its noise comes from a generator seeded by purpose, epoch and
sample id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Literal

import torch

from mimix_core.engine.torch_runtime import seeded_generator
from mimix_core.wan.model_registry import FULL_RANGE, NoiseRange
from mimix_core.wan.text_embeddings import TEXT_TOKENS

_VALIDATION = "validation"
_TRAINING = "training"
_LARGEST_QUANTILE = math.nextafter(1.0, 0.0)
# Noise levels over which a loss weighting is averaged: the number of Wan's timesteps.
_LEVELS = 1000


@dataclass(frozen=True)
class NoiseLevelDistribution:
    """Distribution of the noise levels in training: a distribution of s, then the shift.

    ``levels``: the distribution is truncated to these levels s' and renormalized: within them,
    levels are as frequent relative to each other as without the truncation.
    """

    sampling: Literal["uniform", "logit_normal"]
    shift: float
    logit_mean: float = 0.0
    logit_std: float = 1.0
    levels: NoiseRange = FULL_RANGE

    def sigma_at(self, quantile: float) -> float:
        """Return the level s' at a quantile in (0, 1), the inverse of the distribution function."""
        lowest, highest = self.levels
        first, last = (self._quantile_of(level) for level in self.levels)
        # A quantile just below 1 can be rounded to 1, where the logit is infinite.
        untruncated = min(first + quantile * (last - first), _LARGEST_QUANTILE)
        if self.sampling == "uniform":
            sigma = shift_sigma(untruncated, self.shift)
        else:
            logit = NormalDist(self.logit_mean, self.logit_std).inv_cdf(untruncated)
            sigma = shift_sigma(1 / (1 + math.exp(-logit)), self.shift)
        return min(max(sigma, lowest), highest)

    @property
    def share(self) -> float:
        """Return the share of the distribution without the truncation that is at these levels."""
        first, last = (self._quantile_of(level) for level in self.levels)
        return last - first

    def _quantile_of(self, sigma: float) -> float:
        """Return the share of levels below s' without the truncation."""
        if sigma in FULL_RANGE:
            return sigma
        unshifted = unshift_sigma(sigma, self.shift)
        if self.sampling == "uniform":
            return unshifted
        logit = math.log(unshifted / (1 - unshifted))
        return NormalDist(self.logit_mean, self.logit_std).cdf(logit)


def shift_sigma(sigma: float, shift: float) -> float:
    """Shift a level s in 0..1 to s'; a shift above 1 moves it towards pure noise."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def unshift_sigma(sigma: float, shift: float) -> float:
    """Return the level s in 0..1 that ``shift_sigma`` shifts to s'."""
    return sigma / (shift - (shift - 1) * sigma)


def loss_weight(
    sigma: float, weighting: Literal["none", "gaussian"], distribution: NoiseLevelDistribution
) -> float:
    """Return the weight of the loss at level s'; its mean over the distribution is 1.

    ``gaussian`` is DiffSynth-Studio's (``FlowMatchScheduler.set_training_weight``):
    exp(-2 (s' - 1/2)^2) minus its value at pure noise, so the weight there is 0.
    """
    return 1.0 if weighting == "none" else _gaussian(sigma) / _mean_gaussian(distribution)


def _gaussian(sigma: float) -> float:
    return math.exp(-2 * (sigma - 0.5) ** 2) - math.exp(-0.5)


@lru_cache
def _mean_gaussian(distribution: NoiseLevelDistribution) -> float:
    midpoints = [(index + 0.5) / _LEVELS for index in range(_LEVELS)]
    return math.fsum(_gaussian(distribution.sigma_at(midpoint)) for midpoint in midpoints) / _LEVELS


def draw_training_noise(seed: int, epoch: int, occurrence: str, shape: torch.Size) -> torch.Tensor:
    """Draw noise_CTHW of a sample in an epoch; it depends on the arguments alone.

    ``occurrence``: the sample's id, or the name of its repetition in the epoch.
    """
    return torch.randn(shape, generator=seeded_generator(seed, _TRAINING, epoch, occurrence))


def validation_sigmas(count: int, shift: float, levels: NoiseRange = FULL_RANGE) -> list[float]:
    """Return fixed noise levels: the shifted midpoints of ``count`` equal intervals of 0..1.

    With ``levels``: of the part of 0..1 that is shifted to them. They do not depend on the training
    distribution, so runs with different ones stay comparable.
    """
    distribution = NoiseLevelDistribution("uniform", shift, levels=levels)
    return [distribution.sigma_at((index + 0.5) / count) for index in range(count)]


def draw_validation_noise(seed: int, sample_id: str, shape: torch.Size) -> torch.Tensor:
    """Draw noise_CTHW of a held-out sample; it is the same in every validation."""
    return torch.randn(shape, generator=seeded_generator(seed, _VALIDATION, sample_id))


def pad_embeddings(texts_LD: list[torch.Tensor]) -> torch.Tensor:
    """Stack embeddings as text_BLD with L = 512, padded with zeros."""
    return torch.stack(
        [torch.nn.functional.pad(text, (0, 0, 0, TEXT_TOKENS - len(text))) for text in texts_LD]
    )


def velocity_losses(
    transformer: Any,
    latents_BCTHW: torch.Tensor,
    text_BLD: torch.Tensor,
    sigma_B: torch.Tensor,
    noise_BCTHW: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Compute each sample's mean squared error of the predicted velocity, fp32 [B].

    Arguments as of ``predict_velocity``.
    """
    velocity_BCTHW = predict_velocity(
        transformer, latents_BCTHW, text_BLD, sigma_B, noise_BCTHW, dtype
    )
    error_BCTHW = velocity_BCTHW - (noise_BCTHW - latents_BCTHW)
    loss_B: torch.Tensor = error_BCTHW.square().flatten(1).mean(dim=1)
    return loss_B


def predict_velocity(
    transformer: Any,
    latents_BCTHW: torch.Tensor,
    text_BLD: torch.Tensor,
    sigma_B: torch.Tensor,
    noise_BCTHW: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Predict velocity_BCTHW, fp32, of latents that are noised to level sigma.

    Latents, noise and sigma are fp32. Only the network's inputs are cast to ``dtype``, except the
    timestep: bf16 represents 294 of its 1000 levels.
    """
    sigma_B1111 = sigma_B.view(-1, 1, 1, 1, 1)
    noised_BCTHW = (1 - sigma_B1111) * latents_BCTHW + sigma_B1111 * noise_BCTHW
    velocity_BCTHW: torch.Tensor = transformer(
        hidden_states=noised_BCTHW.to(dtype),
        timestep=1000 * sigma_B,
        encoder_hidden_states=text_BLD.to(dtype),
        return_dict=False,
    )[0]
    return velocity_BCTHW.float()
