"""A running mean of the adapter over its training: steadier than its last step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

KEY_PREFIX = "ema/"

AdapterWeights = Mapping[str, torch.Tensor]
"""Whole, by name."""


@dataclass(frozen=True)
class Ema:
    """``mean``: by name, fp32, where the adapters are; its values change with every step."""

    decay: float
    mean: dict[str, torch.Tensor]

    def update(self, adapters: AdapterWeights, step: int) -> None:
        """Take in the adapters after ``step`` steps.

        The mean's memory is at most a tenth as long as the run so far, so that it does not hang on
        to the start: decay min(decay, (1 + step) / (10 + step)), as diffusers' EMAModel has it.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, weight in adapters.items():
            self.mean[name].lerp_(weight, 1 - decay)

    def checkpoint_tensors(self) -> dict[str, torch.Tensor]:
        """For a checkpoint."""
        return {f"{KEY_PREFIX}{name}": value.cpu() for name, value in self.mean.items()}


def start_ema(decay: float, adapters: AdapterWeights) -> Ema:
    """A mean that is the adapters as they are."""
    return Ema(decay, {name: weight.clone() for name, weight in adapters.items()})


def resume_ema(decay: float, adapters: AdapterWeights, tensors: Mapping[str, torch.Tensor]) -> Ema:
    """The mean that a checkpoint holds."""
    return Ema(
        decay,
        {
            name: tensors[f"{KEY_PREFIX}{name}"].to(weight.device)
            for name, weight in adapters.items()
        },
    )
