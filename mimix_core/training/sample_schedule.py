"""Schedule samples and noise levels over optimizer steps and processes, by pure functions.

The contents of a step depend on samples, seed and global batch size alone. The number of processes
and the micro batch size only determine which process computes which part.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from mimix_core.domain.splits import composite_count
from mimix_core.settings import LoraSettings
from mimix_core.training.worker_messages import TrainingSample
from mimix_core.wan import tensor_shards

if TYPE_CHECKING:
    import torch

_FRACTION_BITS = 53

NO_REPEATS: Mapping[str, int] = MappingProxyType({})
"""Every sample occurs once per epoch."""


class EpochSample(Protocol):
    """A sample, as far as the length of an epoch depends on it."""

    @property
    def show(self) -> str: ...
    @property
    def composite(self) -> bool: ...


@dataclass(frozen=True)
class BatchItem:
    """One sample of a global batch.

    ``weight``: its share of the step's loss; 0 for an item that only pads a micro batch.
    ``quantile``: quantile of its noise level in the distribution of noise levels, in (0, 1).
    ``repetition``: its number among the sample's occurrences in the epoch, from 0.
    """

    sample: TrainingSample
    epoch: int
    weight: float
    quantile: float
    repetition: int = 0

    @property
    def occurrence(self) -> str:
        """Return what its draws are named by: the sample's id and, after the first, its number."""
        return _occurrence(self.sample, self.repetition)


def count_optimizer_steps(samples: int, epochs: int, batch_size: int) -> int:
    """Count the global batches in which every sample occurs once per epoch."""
    return math.ceil(samples * epochs / batch_size)


def epoch_steps(samples: int, settings: LoraSettings) -> dict[int, int]:
    """Return the epochs after which an adapter is saved, with the steps completed by then.

    The final epoch is not among them. A step that begins the next epoch counts: it is the first
    one after which every sample of the epoch was used.
    """
    if settings.epoch_adapter_interval is None:
        return {}
    saved = range(settings.epoch_adapter_interval, settings.epochs, settings.epoch_adapter_interval)
    return {
        epoch: count_optimizer_steps(samples, epoch, settings.global_batch_size) for epoch in saved
    }


def epoch_length(samples: Sequence[EpochSample], show_repeats: Mapping[str, int]) -> int:
    """Count the occurrences of videos in each epoch.

    Originals occur as often as ``show_repeats`` says for their show, by default once. The
    composites' number is the one whose share comes nearest to that among ``samples``, which
    differs by less than one composite per epoch.
    """
    if not show_repeats:
        return len(samples)
    originals = [sample for sample in samples if not sample.composite]
    if not originals:
        return len(samples)
    repeated = sum(show_repeats.get(sample.show, 1) for sample in originals)
    share = Fraction(len(samples) - len(originals), len(samples))
    return repeated + composite_count(repeated, share)


def count_images(videos: int, image_ratio: float) -> int:
    """Count the images in an epoch with so many occurrences of videos."""
    return round(videos * image_ratio)


def mixed_epoch_length(samples: Sequence[TrainingSample], settings: LoraSettings) -> int:
    """Count the occurrences of videos and images in each epoch."""
    return _epoch_length(samples, settings.show_repeats, settings.image_ratio)


def _epoch_length(
    samples: Sequence[TrainingSample], show_repeats: Mapping[str, int], image_ratio: float
) -> int:
    length = epoch_length([sample for sample in samples if not sample.image], show_repeats)
    return length + count_images(length, image_ratio)


def order_epoch(
    samples: Sequence[TrainingSample],
    epoch: int,
    seed: int,
    show_repeats: Mapping[str, int] = NO_REPEATS,
    image_ratio: float = 0.0,
) -> list[tuple[TrainingSample, int]]:
    """Return the samples in the epoch's order, each with the number of its repetition (from 0).

    The order depends on seed, epoch, ids and repetitions alone.
    """
    times = _epoch_counts(samples, epoch, seed, show_repeats, image_ratio)
    return sorted(
        ((sample, number) for sample in samples for number in range(times[sample.sample_id])),
        key=lambda one: _digest(seed, epoch, _occurrence(*one)),
    )


def count_occurrences(samples: Sequence[TrainingSample], settings: LoraSettings) -> Counter[str]:
    """Count how often a run uses each sample, by id."""
    total: Counter[str] = Counter()
    for epoch in range(settings.epochs):
        total.update(
            _epoch_counts(
                samples, epoch, settings.seed, settings.show_repeats, settings.image_ratio
            )
        )
    return total


def _epoch_counts(
    samples: Sequence[TrainingSample],
    epoch: int,
    seed: int,
    show_repeats: Mapping[str, int],
    image_ratio: float,
) -> dict[str, int]:
    """Return how often an epoch has each sample, by id.

    Images occur equally often, or some once more than others, which are the next ones in each
    epoch.
    """
    counts = _video_counts(
        [sample for sample in samples if not sample.image], epoch, seed, show_repeats
    )
    images = sorted(
        (sample.sample_id for sample in samples if sample.image),
        key=lambda name: _digest(seed, "image", name),
    )
    drawn = count_images(sum(counts.values()), image_ratio)
    counts |= dict.fromkeys(images, 0)
    for position in range(epoch * drawn, (epoch + 1) * drawn):
        counts[images[position % len(images)]] += 1
    return counts


def _video_counts(
    samples: Sequence[TrainingSample], epoch: int, seed: int, show_repeats: Mapping[str, int]
) -> dict[str, int]:
    """Return how often an epoch has each video, by id.

    Composites occur equally often, or some once more than others. These change from epoch to
    epoch: they are the next ones of an order that depends on the seed.
    """
    if not show_repeats:
        return dict.fromkeys((sample.sample_id for sample in samples), 1)
    counts = {
        sample.sample_id: 1 if sample.composite else show_repeats.get(sample.show, 1)
        for sample in samples
    }
    extra = epoch_length(samples, show_repeats) - sum(counts.values())
    if extra == 0:
        return counts
    composites = sorted(
        (sample.sample_id for sample in samples if sample.composite),
        key=lambda name: _digest(seed, "composite", name),
    )
    for position in range(epoch * extra, (epoch + 1) * extra):
        counts[composites[position % len(composites)]] += 1
    return counts


def plan_global_batch(
    samples: Sequence[TrainingSample],
    step: int,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    show_repeats: Mapping[str, int] = NO_REPEATS,
    image_ratio: float = 0.0,
) -> list[BatchItem]:
    """Plan the items of optimizer step ``step`` (from 0); their weights sum to 1.

    The concatenated epochs are split into batches; only the last batch of the run can be smaller.
    Noise levels are stratified: their range is split into as many equal parts as there are items,
    and each item draws from a different part. A single level is distributed as if drawn
    independently, but the batch covers the range, which reduces the variance of loss and gradient.
    """
    length = _epoch_length(samples, show_repeats, image_ratio)
    begin = step * batch_size
    positions = range(begin, min(begin + batch_size, length * epochs))
    orders = {
        epoch: order_epoch(samples, epoch, seed, show_repeats, image_ratio)
        for epoch in sorted({position // length for position in positions})
    }
    selected = []
    for position in positions:
        epoch, place = divmod(position, length)
        sample, repetition = orders[epoch][place]
        selected.append(BatchItem(sample, epoch, 1 / len(positions), 0.0, repetition))
    strata = sorted(
        range(len(selected)),
        key=lambda index: _digest(
            seed, "stratum", selected[index].epoch, selected[index].occurrence
        ),
    )
    quantiles = [0.0] * len(selected)
    for stratum, index in enumerate(strata):
        item = selected[index]
        offset = _fraction(seed, "level", item.epoch, item.occurrence)
        quantiles[index] = (stratum + offset) / len(selected)
    return [
        replace(item, quantile=quantile) for item, quantile in zip(selected, quantiles, strict=True)
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


def _occurrence(sample: TrainingSample, repetition: int) -> str:
    return f"{sample.sample_id}\0{repetition}" if repetition else sample.sample_id


def _digest(*key: str | int) -> bytes:
    return hashlib.sha256("\0".join(map(str, key)).encode()).digest()


def _fraction(*key: str | int) -> float:
    """Return a uniformly distributed number in the open interval (0, 1), derived from the key."""
    number = int.from_bytes(_digest(*key)[:8], "big") >> (64 - _FRACTION_BITS + 1)
    return float((2 * number + 1) / 2**_FRACTION_BITS)
