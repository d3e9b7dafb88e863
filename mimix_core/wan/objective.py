"""Flow matching as Wan2.1 defines it (the rules in diffusers' and Wan's own code agree).

x_t = (1 - s) x0 + s noise; the network predicts v = noise - x0; s' = shift s / (1 + (shift - 1) s);
the timestep it is told is 1000 s', in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mimix_core.wan.runtime import generator

TEXT_TOKENS = 512
_VALIDATION = "validation"


@dataclass(frozen=True)
class Draw:
    """The noise level s' (shifted) and the noise of one sample at one moment."""

    sigma: float
    noise_CTHW: torch.Tensor


def shifted(sigma: float, shift: float) -> float:
    """s' of a level s in 0..1: a shift above 1 moves levels towards pure noise."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def draw(seed: int, epoch: int, sample_id: str, shape: torch.Size, shift: float) -> Draw:
    """The level and the noise for a sample in an epoch: s uniform in 0..1.

    Keyed by its arguments alone, so any process can make any sample's again at any time.
    """
    numbers = generator(seed, epoch, sample_id)
    sigma = torch.rand((), generator=numbers, dtype=torch.float64).item()
    return Draw(shifted(sigma, shift), torch.randn(shape, generator=numbers))


def validation_sigmas(count: int, shift: float) -> list[float]:
    """Fixed levels: the middles of ``count`` equal parts of training's distribution of levels."""
    return [shifted((index + 0.5) / count, shift) for index in range(count)]


def validation_noise(seed: int, sample_id: str, shape: torch.Size) -> torch.Tensor:
    """The noise a held-out sample gets every time it is looked at."""
    return torch.randn(shape, generator=generator(seed, _VALIDATION, sample_id))


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
