"""Load the training log from the folder of the lora table.

``log.jsonl`` contains one JSON object per line; ``step`` is the number of optimizer steps done.
Kinds of objects (``training/run_logger.py`` writes them):

``{"step": 3, "train_loss": 0.41, "grad_norm": 0.2, ...}``
    Mean loss of the third optimizer step's batch, and its gradient norm.
``{"step": 50, "quantile": 0, "val_loss": 0.37}``
    Mean loss of all held-out samples after 50 steps at the lowest of the fixed noise levels.
``{"step": 50, "held_out_loss": 0.4, "style": {"cartoon": {"loss": 0.4, "samples": 9}}, ...}``
    The mean over all levels, and means by style and by character. With characters that are added
    also ``old_character``: in clips without a new one.
``{"step": 50, "epoch": 2, "adapter": "epochs/...", "epoch_loss": 0.4}``
    An adapter that was saved; not part of the curves.
``{"step": 50, "preview": "previews/step-000050/0.mp4", "prompt": "...", ...}``
    A video of a fixed prompt generated at that step, relative to the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimix_core.errors import BadInput

LOG_FILE = "log.jsonl"

CurvePoints = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class LossGroup:
    """Held-out loss of the samples of a style or character, averaged over all noise levels."""

    kind: str
    name: str
    samples: int
    points: CurvePoints


@dataclass(frozen=True)
class TrainingPreview:
    """A short video generated during training."""

    step: int
    prompt: str
    seed: int
    path: Path
    frames: int
    width: int
    height: int


@dataclass(frozen=True)
class TrainingCurves:
    """Points (step, value) of training, and of each noise level from the lowest noise on.

    ``groups``: styles, then characters, each with the largest groups first. ``old_characters``: of
    clips without a new one, if characters were added to an adapter.
    """

    train: CurvePoints
    validation: tuple[CurvePoints, ...]
    gradient: CurvePoints = ()
    groups: tuple[LossGroup, ...] = ()
    previews: tuple[TrainingPreview, ...] = ()
    old_characters: tuple[LossGroup, ...] = ()

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return max((step for step, _ in self.train), default=0)


def load_training_curves(folder: Path) -> TrainingCurves:
    """Load the log next to a lora table. Raises BadInput when it is not as described above."""
    try:
        text = (folder / LOG_FILE).read_text(encoding="utf-8")
        return _parse_log([json.loads(line) for line in text.splitlines()], folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"not a readable training log ({type(error).__name__})",
            where=LOG_FILE,
            fix="Run the stage that writes it again.",
        ) from error


def _parse_log(records: list[Mapping[str, Any]], folder: Path) -> TrainingCurves:
    train: list[tuple[int, float]] = []
    gradient: list[tuple[int, float]] = []
    levels: dict[int, list[tuple[int, float]]] = {}
    previews = []
    means = []
    for record in records:
        step = int(record["step"])
        if "val_loss" in record:
            point = (step, float(record["val_loss"]))
            levels.setdefault(int(record["quantile"]), []).append(point)
        elif "held_out_loss" in record:
            means.append(record)
        elif "preview" in record:
            previews.append(_parse_preview(record, folder))
        elif "adapter" not in record:
            train.append((step, float(record["train_loss"])))
            gradient.append((step, float(record["grad_norm"])))
    return TrainingCurves(
        tuple(sorted(train)),
        tuple(tuple(sorted(points)) for _, points in sorted(levels.items())),
        tuple(sorted(gradient)),
        _held_out_groups(means, "style") + _held_out_groups(means, "character"),
        tuple(previews),
        _held_out_groups([mean for mean in means if "old_character" in mean], "old_character"),
    )


def _held_out_groups(means: list[Mapping[str, Any]], kind: str) -> tuple[LossGroup, ...]:
    points: dict[str, dict[int, float]] = {}
    samples: dict[str, int] = {}
    for record in means:
        for name, values in record[kind].items():
            points.setdefault(name, {})[int(record["step"])] = float(values["loss"])
            samples[name] = int(values["samples"])
    return tuple(
        LossGroup(kind, name, samples[name], tuple(sorted(points[name].items())))
        for name in sorted(points, key=lambda name: (-samples[name], name))
    )


def _parse_preview(record: Mapping[str, Any], folder: Path) -> TrainingPreview:
    return TrainingPreview(
        step=int(record["step"]),
        prompt=str(record["prompt"]),
        seed=int(record["seed"]),
        path=folder / record["preview"],
        frames=int(record["frames"]),
        width=int(record["width"]),
        height=int(record["height"]),
    )
