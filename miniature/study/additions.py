"""The arms that add a character: their settings, and what all arms' trainings took."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.store import StageRecord
from mimix_core.errors import BadInput
from mimix_core.wan.lora_export import ADAPTER_FILE
from miniature.study.arms import ADDED, Arm, all_again

MAX_STEPS_SHARE = 0.3


@dataclass(frozen=True)
class TrainingRow:
    """What the training of one arm and seed took.

    ``forgetting`` and ``adapter``: the notes of a training that added a character, else empty.
    ``held_out_loss_first`` and ``held_out_loss``: before the first step and after the last; None
    without held-out samples.
    """

    arm: str
    seed: int
    steps: int
    forgetting: str
    adapter: str
    held_out_loss_first: float | None = None
    held_out_loss: float | None = None


def write_addition(arm: Arm, seed: int, path: Path) -> None:
    """Write the settings of an arm that adds a character, as ``mimix characters add`` does.

    Raises BadInput if the arm that it starts from has not been trained.
    """
    # Imports Prefect, which takes its settings from the environment at that moment.
    from flows.character_addition import AdditionOptions, add_characters

    options = AdditionOptions(Fraction(arm.replay_share), MAX_STEPS_SHARE, arm.max_forgetting)
    first = path.with_name(f"{arm.added_to}-{seed}.yaml")
    if not first.is_file():
        raise BadInput(
            f"{arm.name} starts from {arm.added_to}, which has not run with seed {seed}",
            where=str(first),
            fix=f"Run the arm {arm.added_to} first.",
        )
    table, _ = _training_of(first)
    add_characters(all_again(path), [ADDED], table.folder / ADAPTER_FILE, path, options)


def read_training(arm: str, seed: int, settings: Path) -> TrainingRow:
    """Read what the training of a finished run took."""
    _, record = _training_of(settings)
    notes = record.notes
    return TrainingRow(
        arm,
        seed,
        int(notes["steps"]),
        str(notes.get("forgetting", "")),
        str(notes.get("adapter", "")),
        _loss(notes.get("held_out_loss_first")),
        _loss(notes.get("held_out_loss_last")),
    )


def _loss(note: str | int | float | None) -> float | None:
    return None if note is None else float(note)


def _training_of(settings: Path) -> tuple[TableRef, StageRecord]:
    """Return the training's table and record of a run. Raises BadInput if it has none."""
    from flows.cached_results import collect_cached_results

    results = collect_cached_results(settings, None)
    refs = results.run.refs.get("lora")
    if not refs:
        reason = results.stopped_at.what if results.stopped_at else "no adapter"
        raise BadInput(f"not trained yet: {reason}", where=str(settings))
    return refs[0], results.run.workspace.store.record(refs[0])
