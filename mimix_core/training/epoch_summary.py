"""Summarize the epochs of a completed run whose adapters were saved, from its log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mimix_core.engine.jsonl_log import read_records

_LOG_FILE = "log.jsonl"


@dataclass(frozen=True)
class EpochSummary:
    """An adapter that was saved after an epoch.

    ``step``: optimizer steps completed by then. ``train_loss``: mean over the epoch's steps.
    ``held_out_loss`` and ``previews`` (videos): of that step, where the run made them.
    """

    epoch: int
    step: int
    train_loss: float
    held_out_loss: float | None
    previews: tuple[Path, ...]


def summarize_epochs(folder: Path) -> list[EpochSummary]:
    """Summarize the saved epochs of the run whose result is in ``folder``, the first one first."""
    records = read_records(folder / _LOG_FILE, lambda record: isinstance(record["step"], int))
    held_out = {r["step"]: float(r["held_out_loss"]) for r in records if "held_out_loss" in r}
    return [
        EpochSummary(
            epoch=record["epoch"],
            step=record["step"],
            train_loss=record["epoch_loss"],
            held_out_loss=held_out.get(record["step"]),
            previews=tuple(
                folder / other["preview"]
                for other in records
                if "preview" in other and other["step"] == record["step"]
            ),
        )
        for record in records
        if "adapter" in record
    ]
