"""Choose the held-out samples of a validation: as many as its share of the training pays for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from mimix_core.domain.splits import hash_uniform
from mimix_core.settings import LoraSettings
from mimix_core.training.sample_schedule import count_optimizer_steps, epoch_steps
from mimix_core.training.worker_messages import TrainingSample

FORWARD_PASSES_OF_A_TRAINING_PASS = 2
"""Cost of a sample's forward and backward pass in forward passes: frozen layers need no gradient of
their weights, so that the backward pass costs about as much as the forward one. Recomputed
activations cost more; then validations take less than their share."""


def evaluation_steps(
    steps: int, interval: int | None, epoch_steps: Iterable[int] = ()
) -> frozenset[int]:
    """Return the numbers of completed optimizer steps at which a training of ``steps`` evaluates.

    It does at both ends, every ``interval`` steps, and after ``epoch_steps``, at which adapters are
    saved; without an interval never.
    """
    if interval is None:
        return frozenset()
    return frozenset({*range(0, steps, interval), steps, *epoch_steps})


def validation_share(train_samples: int, val_samples: int, settings: LoraSettings) -> float:
    """Compute the cost of all validations as a share of the training's own, by counting passes.

    ``train_samples``: of an epoch, images included. ``val_samples``: of each validation.
    """
    training = FORWARD_PASSES_OF_A_TRAINING_PASS * _videos(train_samples, settings)
    training *= settings.epochs
    return val_samples * _passes_per_sample(train_samples, settings) / training


SAMPLES_OF_AN_OLD_CHARACTER = 4
"""Least number of held-out samples by which the forgetting of a character is measured."""


def select_validation_samples(
    held_out: Sequence[TrainingSample],
    train_samples: int,
    settings: LoraSettings,
    new_characters: Collection[str] = (),
) -> list[TrainingSample]:
    """Select the samples to validate on, in the given order.

    At most ``settings.validation_samples``, and as many as ``settings.validation_share`` of the
    training on ``train_samples`` samples pays for, but at least one of each show. Stratified: the
    next sample is always of the show, style and characters that have the fewest so far; between
    equals the seed decides. The choice of a smaller number is part of that of a larger one, unless
    the larger one is all. With ``new_characters``, as many more as it takes until each old one is
    in ``SAMPLES_OF_AN_OLD_CHARACTER`` samples without a new one, or in all that there are.
    """
    limit = len(held_out)
    if settings.validation_samples is not None:
        limit = min(limit, settings.validation_samples)
    if settings.validation_share is not None:
        training = FORWARD_PASSES_OF_A_TRAINING_PASS * _videos(train_samples, settings)
        training *= settings.epochs
        passes = settings.validation_share * training
        affordable = math.floor(passes / _passes_per_sample(train_samples, settings))
        limit = min(limit, max(affordable, len({sample.show for sample in held_out})))
    if limit == len(held_out):
        return list(held_out)
    left = sorted(
        held_out, key=lambda sample: hash_uniform(settings.seed, "validation", sample.sample_id)
    )
    counts: Counter[tuple[str, str]] = Counter()
    chosen: set[str] = set()
    missing = _missing_old_samples(held_out, new_characters)
    while len(chosen) < limit or missing:
        # After the limit only samples that show what is missing.
        wanted = left
        if len(chosen) >= limit:
            wanted = [sample for sample in left if missing & _old(sample, new_characters)]
        rarest = min(wanted, key=lambda sample: _rarity(sample, counts))
        left.remove(rarest)
        chosen.add(rarest.sample_id)
        counts.update(_strata(rarest))
        missing.subtract(_old(rarest, new_characters))
        missing = +missing
    return [sample for sample in held_out if sample.sample_id in chosen]


def _videos(train_samples: int, settings: LoraSettings) -> int:
    """Count the videos among the samples of an epoch: an image costs next to nothing."""
    return round(train_samples / (1 + settings.image_ratio))


def _missing_old_samples(
    held_out: Sequence[TrainingSample], new_characters: Collection[str]
) -> Counter[str]:
    """Count for each old character how many samples without a new one are to be chosen."""
    if not new_characters:
        return Counter()
    available = Counter(name for sample in held_out for name in _old(sample, new_characters))
    return Counter(
        {name: min(count, SAMPLES_OF_AN_OLD_CHARACTER) for name, count in available.items()}
    )


def _old(sample: TrainingSample, new_characters: Collection[str]) -> Counter[str]:
    """Return the characters of a sample that shows no new one; none of any other sample."""
    names = set(sample.characters)
    return Counter() if names & set(new_characters) else Counter(names)


def _passes_per_sample(train_samples: int, settings: LoraSettings) -> int:
    """Count the forward passes that one held-out sample costs in all validations."""
    steps = count_optimizer_steps(train_samples, settings.epochs, settings.global_batch_size)
    saved = epoch_steps(train_samples, settings)
    validations = evaluation_steps(steps, settings.validation_interval, saved.values())
    return settings.validation_quantiles * len(validations)


def _strata(sample: TrainingSample) -> list[tuple[str, str]]:
    characters = [("character", name) for name in sorted(set(sample.characters))]
    return [("show", sample.show), ("style", sample.style), *characters]


def _rarity(sample: TrainingSample, counts: Counter[tuple[str, str]]) -> tuple[int, float, int]:
    """Return a key that is lower the fewer samples the strata have: show, characters, style."""
    characters = [counts["character", name] for name in set(sample.characters)]
    return (
        counts["show", sample.show],
        min(characters) if characters else math.inf,
        counts["style", sample.style],
    )
