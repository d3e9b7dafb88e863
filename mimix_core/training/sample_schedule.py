"""Which sample is trained on when, at which noise level and by whom: pure functions.

What a step is made of depends on samples, seed and batch alone. How many processes share it, and
how many samples they take at a time, only decides who computes what.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan import tensor_shards

if TYPE_CHECKING:
    import torch

_FRACTION_BITS = 53


@dataclass(frozen=True)
class BatchItem:
    """One place in a global batch.

    ``weight`` is its share of the step's loss; 0 for one that only fills up a micro batch.
    ``quantile``, in (0, 1), says where in the distribution of noise levels its level lies.
    """

    sample: TrainingSample
    epoch: int
    weight: float
    quantile: float


def count_optimizer_steps(samples: int, epochs: int, batch: int) -> int:
    """Global batches that hold every sample once an epoch."""
    return math.ceil(samples * epochs / batch)


def shuffle_epoch(samples: Sequence[TrainingSample], epoch: int, seed: int) -> list[TrainingSample]:
    """The samples in this epoch's order, which depends on seed, epoch and sample ids alone."""
    return sorted(samples, key=lambda sample: _digest(seed, epoch, sample.sample_id))


def plan_global_batch(
    samples: Sequence[TrainingSample], step: int, *, epochs: int, batch: int, seed: int
) -> list[BatchItem]:
    """The slots of optimizer step ``step`` (from 0); their weights add up to 1.

    The epochs follow each other without a gap, cut into batches; only the run's last one can be
    short. The range of noise levels is cut into as many equal parts as there are slots, and each
    slot has one part to itself: one sample's level is as if drawn alone, but the batch as a whole
    covers the range, so that its loss and gradient vary less.
    """
    begin = step * batch
    places = range(begin, min(begin + batch, len(samples) * epochs))
    orders = {
        epoch: shuffle_epoch(samples, epoch, seed)
        for epoch in sorted({place // len(samples) for place in places})
    }
    picked = [
        (orders[place // len(samples)][place % len(samples)], place // len(samples))
        for place in places
    ]
    strata = sorted(
        range(len(picked)),
        key=lambda index: _digest(seed, "stratum", picked[index][1], picked[index][0].sample_id),
    )
    quantiles = [0.0] * len(picked)
    for stratum, index in enumerate(strata):
        sample, epoch = picked[index]
        within = _fraction(seed, "level", epoch, sample.sample_id)
        quantiles[index] = (stratum + within) / len(picked)
    return [
        BatchItem(sample, epoch, 1 / len(picked), quantile)
        for (sample, epoch), quantile in zip(picked, quantiles, strict=True)
    ]


def split_micro_batches(
    slots: Sequence[BatchItem], processes: int, micro_batch: int
) -> list[list[list[BatchItem]]]:
    """Each process's micro batches of a global batch: all of one size, and as many for each.

    Samples of one shape stand together; where they do not fill a micro batch, or micro batches do
    not come out even, a slot or a whole micro batch is repeated with weight 0.
    """
    by_shape: dict[tuple[int, ...], list[BatchItem]] = {}
    for slot in slots:
        by_shape.setdefault(slot.sample.shape, []).append(slot)
    micros = []
    for alike in by_shape.values():
        for begin in range(0, len(alike), micro_batch):
            micro = alike[begin : begin + micro_batch]
            micros.append(micro + [_filler(micro[-1])] * (micro_batch - len(micro)))
    missing = -len(micros) % processes
    micros += [[_filler(slot) for slot in micros[-1]]] * missing
    return [micros[rank::processes] for rank in range(processes)]


def _filler(slot: BatchItem) -> BatchItem:
    return replace(slot, weight=0.0)


def load_sample(sample: TrainingSample) -> tuple[torch.Tensor, torch.Tensor]:
    """latents_CTHW and text_LD of a sample, in fp32."""
    return tensor_shards.read_latents(sample.latents), tensor_shards.read_text(sample.text).float()


def _digest(*key: str | int) -> bytes:
    return hashlib.sha256("\0".join(map(str, key)).encode()).digest()


def _fraction(*key: str | int) -> float:
    """A number in (0, 1), ends excluded, as if drawn uniformly for that key."""
    number = int.from_bytes(_digest(*key)[:8], "big") >> (64 - _FRACTION_BITS + 1)
    return float((2 * number + 1) / 2**_FRACTION_BITS)
