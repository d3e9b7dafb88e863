"""Summarize the epochs of a completed run whose adapters were saved, from its log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimix_core.engine.jsonl_log import read_records

_LOG_FILE = "log.jsonl"


@dataclass(frozen=True)
class EpochSummary:
    """An adapter that was saved after an epoch.

    ``step``: optimizer steps completed by then. ``train_loss``: mean over the epoch's steps; None
    for the final adapter. ``held_out_loss`` and ``previews`` (videos): of that step, where the run
    made them.
    """

    epoch: int
    step: int
    train_loss: float | None
    held_out_loss: float | None
    previews: tuple[Path, ...]


def summarize_epochs(folder: Path) -> list[EpochSummary]:
    """Summarize the saved epochs of the run whose result is in ``folder``, the first one first."""
    records = _read_log(folder)
    return [
        _summarize(folder, records, record["epoch"], record["step"], record["epoch_loss"])
        for record in records
        if "adapter" in record
    ]


def summarize_final(folder: Path, epoch: int) -> EpochSummary:
    """Summarize the end of a run of ``epoch`` epochs, of which the final adapter is."""
    records = _read_log(folder)
    last = max((record["step"] for record in records), default=0)
    return _summarize(folder, records, epoch, last, None)


def _read_log(folder: Path) -> list[dict[str, Any]]:
    return read_records(folder / _LOG_FILE, lambda record: isinstance(record["step"], int))


def _summarize(
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    epoch: int,
    step: int,
    train_loss: float | None,
) -> EpochSummary:
    of_step = [record for record in records if record["step"] == step]
    held_out = [record["held_out_loss"] for record in of_step if "held_out_loss" in record]
    return EpochSummary(
        epoch=epoch,
        step=step,
        train_loss=train_loss,
        held_out_loss=held_out[-1] if held_out else None,
        previews=tuple(folder / record["preview"] for record in of_step if "preview" in record),
    )
