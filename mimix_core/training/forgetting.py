"""Measure what an added character costs the old ones, against a bound.

Forgetting of an old character: the relative increase of its held-out loss over that of the adapter
that the training started from, on the same clips, noise and levels. Clips with a new character do
not count, since their loss falls while the new one is learned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from mimix_core.errors import BadInput, StageFailed
from mimix_core.training.worker_messages import TrainingSample

LOG_KEY = "old_character"
"""Name of the old characters' losses in a record of the log."""

EARLIER_STEP_NOTE = "adapter"
"""Name of the note that says which step's adapter was written, if not the last one's."""

Losses = Mapping[str, float]
LossesByStep = Mapping[int, Losses]


def shows_old_characters_only(sample: TrainingSample, new_characters: Collection[str]) -> bool:
    """Return whether a sample shows a character, and none of the new ones."""
    return bool(sample.characters) and not set(sample.characters) & set(new_characters)


def check_bound_is_measured(
    held_out: Iterable[TrainingSample], new_characters: Collection[str], where: str
) -> None:
    """Raise BadInput if there is nothing by which forgetting could be measured."""
    if not new_characters:
        raise BadInput(
            "forgetting is limited, but no character is added",
            where=where,
            fix="Name the added characters in dataset.new_characters, or leave out the bound.",
        )
    if not any(shows_old_characters_only(sample, new_characters) for sample in held_out):
        raise BadInput(
            "forgetting is limited, but no held-out sample shows old characters alone",
            where=where,
            fix="Raise dataset.val_share, add episodes of old characters, or leave out the bound.",
        )


def unmeasured_characters(
    known: Collection[str], held_out: Iterable[TrainingSample], new_characters: Collection[str]
) -> list[str]:
    """Return the old characters whose forgetting no held-out sample measures.

    ``known``: the characters of the adapter. None if no character is added.
    """
    measured = {
        name
        for sample in held_out
        if shows_old_characters_only(sample, new_characters)
        for name in sample.characters
    }
    return sorted({*known} - {*new_characters} - measured) if new_characters else []


def group_losses(groups: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the loss of each character."""
    return {name: group["loss"] for name, group in groups.items()}


def measure_forgetting(losses: LossesByStep, step: int) -> dict[str, float]:
    """Compute each old character's relative increase of the loss from step 0 to ``step``."""
    return {name: loss / losses[0][name] - 1 for name, loss in losses[step].items()}


def last_step_within(losses: LossesByStep, bound: float) -> int:
    """Return the last validated step at which no old character is forgotten more than ``bound``.

    0, the adapter that the training started from, if none is later.
    """
    return max(
        step
        for step in losses
        if max(measure_forgetting(losses, step).values()) <= bound or not step
    )


def describe_forgetting(forgetting: Mapping[str, float]) -> str:
    """Describe the changes of the losses, the largest first: ``Tom +1.2 %, Bean -0.3 %``."""
    ordered = sorted(forgetting.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {change:+.1%}".replace("%", " %") for name, change in ordered)


def describe_outcome(
    losses: LossesByStep, written: int, steps: int, bound: float | None
) -> dict[str, str | int | float]:
    """Return the notes of a finished training that added a character.

    ``written``: the step whose adapter was written, of ``steps``.
    """
    notes: dict[str, str | int | float] = {
        "forgetting": describe_forgetting(measure_forgetting(losses, written))
    }
    if written < steps:
        notes[EARLIER_STEP_NOTE] = (
            f"of step {written}, not of the last step {steps}, where old characters exceeded "
            f"lora.max_forgetting {bound:g}: "
            f"{describe_forgetting(measure_forgetting(losses, steps))}"
        )
    return notes


def nothing_within_bound(losses: LossesByStep, bound: float) -> StageFailed:
    """Return the error of a training that exceeded the bound at every validation."""
    steps = sorted(step for step in losses if step)
    best = min(steps, key=lambda step: max(measure_forgetting(losses, step).values()))
    return StageFailed(
        f"old characters are forgotten: at none of {len(steps)} validations did every old "
        f"character's held-out loss stay within {bound:.1%} of the initial adapter's "
        f"(lora.max_forgetting). Nearest, after step {best}: "
        f"{describe_forgetting(measure_forgetting(losses, best))}. No adapter was written. Raise "
        "dataset.replay_share, lower lora.learning_rate, or allow more with lora.max_forgetting"
    )
