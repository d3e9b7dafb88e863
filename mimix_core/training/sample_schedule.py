"""Schedule samples and noise levels over optimizer steps and processes, by pure functions.

The contents of a step depend on samples, seed and global batch size alone. The number of processes
and the micro batch size only determine which process computes which part.
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
    """One sample of a global batch.

    ``weight``: its share of the step's loss; 0 for an item that only pads a micro batch.
    ``quantile``: quantile of its noise level in the distribution of noise levels, in (0, 1).
    """

    sample: TrainingSample
    epoch: int
    weight: float
    quantile: float


def count_optimizer_steps(samples: int, epochs: int, batch_size: int) -> int:
    """Count the global batches in which every sample occurs once per epoch."""
    return math.ceil(samples * epochs / batch_size)


def shuffle_epoch(samples: Sequence[TrainingSample], epoch: int, seed: int) -> list[TrainingSample]:
    """Return the samples in the epoch's order, which depends on seed, epoch and ids alone."""
    return sorted(samples, key=lambda sample: _digest(seed, epoch, sample.sample_id))


def plan_global_batch(
    samples: Sequence[TrainingSample], step: int, *, epochs: int, batch_size: int, seed: int
) -> list[BatchItem]:
    """Plan the items of optimizer step ``step`` (from 0); their weights sum to 1.

    The concatenated epochs are split into batches; only the last batch of the run can be smaller.
    Noise levels are stratified: their range is split into as many equal parts as there are items,
    and each item draws from a different part. A single level is distributed as if drawn
    independently, but the batch covers the range, which reduces the variance of loss and gradient.
    """
    begin = step * batch_size
    positions = range(begin, min(begin + batch_size, len(samples) * epochs))
    orders = {
        epoch: shuffle_epoch(samples, epoch, seed)
        for epoch in sorted({position // len(samples) for position in positions})
    }
    selected = [
        (orders[position // len(samples)][position % len(samples)], position // len(samples))
        for position in positions
    ]
    strata = sorted(
        range(len(selected)),
        key=lambda index: _digest(
            seed, "stratum", selected[index][1], selected[index][0].sample_id
        ),
    )
    quantiles = [0.0] * len(selected)
    for stratum, index in enumerate(strata):
        sample, epoch = selected[index]
        offset = _fraction(seed, "level", epoch, sample.sample_id)
        quantiles[index] = (stratum + offset) / len(selected)
    return [
        BatchItem(sample, epoch, 1 / len(selected), quantile)
        for (sample, epoch), quantile in zip(selected, quantiles, strict=True)
    ]


def split_micro_batches(
    items: Sequence[BatchItem], world_size: int, micro_batch_size: int
) -> list[list[list[BatchItem]]]:
    """Split a global batch into each process's micro batches: equal sizes and equal numbers.

    A micro batch has samples of one shape. Incomplete micro batches and missing ones are padded by
    repeating an item or a complete micro batch with weight 0.
    """
    by_shape: dict[tuple[int, ...], list[BatchItem]] = {}
    for item in items:
        by_shape.setdefault(item.sample.shape, []).append(item)
    micros = []
    for same_shape in by_shape.values():
        for begin in range(0, len(same_shape), micro_batch_size):
            micro = same_shape[begin : begin + micro_batch_size]
            micros.append(micro + [_padding_item(micro[-1])] * (micro_batch_size - len(micro)))
    missing = -len(micros) % world_size
    micros += [[_padding_item(item) for item in micros[-1]]] * missing
    return [micros[rank::world_size] for rank in range(world_size)]


def _padding_item(item: BatchItem) -> BatchItem:
    return replace(item, weight=0.0)


def load_sample(sample: TrainingSample) -> tuple[torch.Tensor, torch.Tensor]:
    """Load latents_CTHW and text_LD of a sample, in fp32."""
    return tensor_shards.read_latents(sample.latents), tensor_shards.read_text(sample.text).float()


def _digest(*key: str | int) -> bytes:
    return hashlib.sha256("\0".join(map(str, key)).encode()).digest()


def _fraction(*key: str | int) -> float:
    """Return a uniformly distributed number in the open interval (0, 1), derived from the key."""
    number = int.from_bytes(_digest(*key)[:8], "big") >> (64 - _FRACTION_BITS + 1)
    return float((2 * number + 1) / 2**_FRACTION_BITS)
