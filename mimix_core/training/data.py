"""Which sample is trained on when and by whom: pure functions, and the reading of one sample."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mimix_core.errors import BadInput
from mimix_core.training.job import Sample

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Slot:
    """One place in a global batch. ``weight`` scales its loss; 0 fills up the last batch."""

    sample: Sample
    epoch: int
    weight: float


def optimizer_steps(samples: int, epochs: int, batch: int) -> int:
    """Global batches that hold every sample once an epoch."""
    return math.ceil(samples * epochs / batch)


def epoch_order(samples: Sequence[Sample], epoch: int, seed: int) -> list[Sample]:
    """The samples in this epoch's order, which depends on seed, epoch and sample ids alone."""
    return sorted(
        samples,
        key=lambda sample: hashlib.sha256(f"{seed}\0{epoch}\0{sample.sample_id}".encode()).digest(),
    )


def global_batch(
    samples: Sequence[Sample], step: int, *, epochs: int, batch: int, seed: int
) -> list[Slot]:
    """The slots of optimizer step ``step`` (from 0).

    The epochs follow each other without a gap, cut into batches; only the run's last batch can be
    short. It is filled with slots of weight 0, and the others weigh more, so that the step is the
    mean over its true samples.
    """
    begin = step * batch
    places = range(begin, min(begin + batch, len(samples) * epochs))
    orders = {
        epoch: epoch_order(samples, epoch, seed)
        for epoch in sorted({place // len(samples) for place in places})
    }
    slots = [
        Slot(orders[place // len(samples)][place % len(samples)], place // len(samples), weight)
        for weight in [batch / len(places)]
        for place in places
    ]
    filler = Slot(slots[-1].sample, slots[-1].epoch, 0.0)
    return slots + [filler] * (batch - len(slots))


def share(slots: Sequence[Slot], rank: int, processes: int, micro_batch: int) -> list[list[Slot]]:
    """The micro batches of one process: all processes' shares together are ``slots``."""
    width = processes * micro_batch
    return [
        list(slots[begin + rank * micro_batch : begin + (rank + 1) * micro_batch])
        for begin in range(0, len(slots), width)
    ]


def load(sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """latents_CTHW and text_LD of a sample, in fp32."""
    from mimix_core.wan import tensors

    latents_CTHW = tensors.read(sample.latents)["latents_CTHW"].float()
    return latents_CTHW, tensors.read(sample.text)["text_LD"].float()


def stack_latents(latents_CTHW: Sequence[torch.Tensor]) -> torch.Tensor:
    """latents_BCTHW of one micro batch. Raises BadInput when the sizes differ."""
    import torch

    shapes = {tuple(latents.shape) for latents in latents_CTHW}
    if len(shapes) > 1:
        raise BadInput(
            f"samples of different sizes in one micro batch: {sorted(shapes)}",
            where="settings, key lora.micro_batch",
            fix="Set lora.micro_batch to 1, or latents.width and latents.height to one size.",
        )
    return torch.stack(list(latents_CTHW))
