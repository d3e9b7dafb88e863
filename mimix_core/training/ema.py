"""Exponential moving average (EMA) of the adapter's weights over training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

KEY_PREFIX = "ema/"

AdapterWeights = Mapping[str, torch.Tensor]
"""Unpartitioned weights by name."""


@dataclass(frozen=True)
class EmaWeights:
    """Averaged weights by name: fp32, on the adapters' device, updated in every step."""

    decay: float
    weights: dict[str, torch.Tensor]

    def update(self, adapters: AdapterWeights, step: int) -> None:
        """Update the average with the adapters after ``step`` steps.

        The averaging window is at most a tenth of the run so far, which limits the influence of the
        initial weights: decay min(decay, (1 + step) / (10 + step)), as in diffusers' EMAModel.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, weight in adapters.items():
            self.weights[name].lerp_(weight, 1 - decay)

    def checkpoint_tensors(self) -> dict[str, torch.Tensor]:
        """Return the average as tensors for a checkpoint."""
        return {f"{KEY_PREFIX}{name}": value.cpu() for name, value in self.weights.items()}


def start_ema(decay: float, adapters: AdapterWeights) -> EmaWeights:
    """Start an average at the current adapters."""
    return EmaWeights(decay, {name: weight.clone() for name, weight in adapters.items()})


def resume_ema(
    decay: float, adapters: AdapterWeights, tensors: Mapping[str, torch.Tensor]
) -> EmaWeights:
    """Restore the average from a checkpoint's tensors."""
    return EmaWeights(
        decay,
        {
            name: tensors[f"{KEY_PREFIX}{name}"].to(weight.device)
            for name, weight in adapters.items()
        },
    )
