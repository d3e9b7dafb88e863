"""Compute how long to train a character that is added, against training on all samples again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.training.sample_schedule import (
    EpochSample,
    count_images,
    count_optimizer_steps,
    epoch_length,
)

MIN_VALIDATIONS = 8
"""Validations during the training, so that an adapter within the bound is not far from its end."""


@dataclass(frozen=True)
class AdditionBudget:
    """Length of a training that adds a character, and of one on all samples.

    ``samples``: of an epoch. ``steps``: optimizer steps of the whole training.
    """

    samples: int
    epochs: int
    steps: int
    all_samples: int
    all_epochs: int
    all_steps: int

    @property
    def share(self) -> float:
        """Return the steps as a share of those of training on all samples again."""
        return self.steps / self.all_steps


def plan_budget(
    used: Sequence[EpochSample],
    everything: Sequence[EpochSample],
    lora: LoraSettings,
    max_share: float,
) -> AdditionBudget:
    """Return the most epochs on ``used`` that take at most ``max_share`` of the steps.

    ``everything``: the samples of training all again, with the epochs of ``lora``, which are also
    the most for ``used``. Raises BadInput when a single epoch takes more.
    """
    videos = [epoch_length(samples, lora.show_repeats) for samples in (used, everything)]
    length, whole = (count + count_images(count, lora.image_ratio) for count in videos)
    batch = lora.global_batch_size
    all_steps = count_optimizer_steps(whole, lora.epochs, batch)
    allowed = math.floor(max_share * all_steps)
    epochs = min(lora.epochs, allowed * batch // length)
    if epochs == 0:
        raise BadInput(
            f"one epoch of {length} samples takes {count_optimizer_steps(length, 1, batch)} steps "
            f"of {batch}; {max_share:.0%} of the {all_steps} of training all again are {allowed}",
            fix="Replay a smaller share (--replay-share), allow more steps (--max-steps-share), or "
            "train on all samples again.",
        )
    return AdditionBudget(
        samples=length,
        epochs=epochs,
        steps=count_optimizer_steps(length, epochs, batch),
        all_samples=whole,
        all_epochs=lora.epochs,
        all_steps=all_steps,
    )


def validation_interval(steps: int, lora: LoraSettings) -> int:
    """Return the steps between two validations, with at least ``MIN_VALIDATIONS`` in a training."""
    return max(1, min(lora.validation_interval, steps // MIN_VALIDATIONS))
