"""Build walls of the previews of training runs: checkpoints x prompts, with the same noise."""

from __future__ import annotations

from typing import Any

from mimix_core.studio.comparison_wall import (
    ComparisonWall,
    ScoreRanking,
    WallColumn,
    WallRow,
    WallVideo,
    file_version,
    rank_by_intervals,
)
from mimix_core.studio.training_runs import TrainingRun

HELD_OUT_LOSS = "held-out loss"

_EXPLANATION = (
    "The loss of held-out samples, always the same ones with the same noise; less is better. "
    "Intervals (95 %) are over samples. Where they overlap, the losses alone do not tell which "
    "checkpoint is better on other samples, and every checkpoint saw the same ones: look at the "
    "videos."
)


def build_checkpoint_wall(run: TrainingRun) -> ComparisonWall | None:
    """Build the wall of a run's previews; None as long as there is none."""
    records = run.records()
    previews: dict[tuple[int, int], dict[str, Any]] = {}
    prompts: dict[int, str] = {}
    for record in records:
        if "preview" not in record:
            continue
        seed = int(record["seed"])
        previews[seed, record["step"]] = record
        prompts[seed] = str(record["prompt"])
    if not previews:
        return None
    steps = sorted({step for _, step in previews})
    losses = {record["step"]: record for record in records if "held_out_loss" in record}
    epochs = {record["step"]: record["epoch"] for record in records if "adapter" in record}
    return ComparisonWall(
        id=f"training-{run.key[:16]}",
        title=run.title,
        noise="Each row starts from the same noise.",
        columns=tuple(
            WallColumn(title=_title(step, epochs.get(step)), note=_note(losses.get(step)))
            for step in steps
        ),
        rows=tuple(
            WallRow(
                id=f"prompt-{number}",
                prompt=prompt,
                videos=tuple(_video(run, previews.get((seed, step))) for step in steps),
            )
            for number, (seed, prompt) in enumerate(prompts.items())
        ),
        rankings=_rank(steps, losses),
    )


def _title(step: int, saved_epoch: int | None) -> str:
    saved = "" if saved_epoch is None else f" (adapter of epoch {saved_epoch})"
    return f"Step {step}{saved}" if step else "Before training"


def _note(record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    text = f"{HELD_OUT_LOSS} {record['held_out_loss']:.4f}"
    interval = record.get("interval")
    return f"{text} ({interval[0]:.4f} to {interval[1]:.4f})" if interval else text


def _video(run: TrainingRun, record: dict[str, Any] | None) -> WallVideo | None:
    path = None if record is None else run.preview(record["preview"])
    if record is None or path is None:
        return None
    sizes = {name: int(record[name]) for name in ("width", "height", "frames")}
    return WallVideo(file=path, digest=file_version(path), **sizes)


def _rank(steps: list[int], losses: dict[int, dict[str, Any]]) -> tuple[ScoreRanking, ...]:
    values = [
        (column, float(record["held_out_loss"]), _bounds(record.get("interval")))
        for column, step in enumerate(steps)
        if (record := losses.get(step)) is not None
    ]
    return (rank_by_intervals(HELD_OUT_LOSS, values, _EXPLANATION),) if values else ()


def _bounds(interval: list[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (float(interval[0]), float(interval[1]))
