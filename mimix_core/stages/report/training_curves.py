"""The training log that lies beside the lora table.

``log.jsonl`` in the table's folder holds one JSON object a line; ``step`` is how many optimizer
steps are done. Of these kinds (``training/watch.py`` writes them):

``{"step": 3, "train_loss": 0.41, "grad_norm": 0.2, ...}``
    Mean loss of the batch of the third optimizer step, and its gradient's norm.
``{"step": 50, "quantile": 0, "val_loss": 0.37}``
    Mean loss of all held-out samples after 50 steps at the least of the fixed noise levels.
``{"step": 50, "held_out_loss": 0.4, "style": {"cartoon": {"loss": 0.4, "samples": 9}}, ...}``
    The mean over all levels, and the same by style and by character.
``{"step": 50, "preview": "previews/step-000050/0.mp4", "prompt": "...", ...}``
    A video of a fixed prompt by the adapter as it was, relative to the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimix_core.errors import BadInput

FILE = "log.jsonl"

Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Group:
    """Held-out losses of the samples of a style, or with a character, over all noise levels."""

    kind: str
    name: str
    samples: int
    held_out: Points


@dataclass(frozen=True)
class Shot:
    """A preview: a short video made while training."""

    step: int
    prompt: str
    seed: int
    path: Path
    frames: int
    width: int
    height: int


@dataclass(frozen=True)
class Losses:
    """Points (step, value) of training, and of each noise level from the least noise on.

    Groups: styles, then characters, those with the most samples first.
    """

    train: Points
    validation: tuple[Points, ...]
    gradient: Points = ()
    groups: tuple[Group, ...] = ()
    previews: tuple[Shot, ...] = ()

    @property
    def steps(self) -> int:
        """Optimizer steps that were taken."""
        return max((step for step, _ in self.train), default=0)


def read_losses(folder: Path) -> Losses:
    """What was logged beside a lora table. Raises BadInput when the log is not as above."""
    try:
        text = (folder / FILE).read_text(encoding="utf-8")
        return _losses([json.loads(line) for line in text.splitlines()], folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"not a readable training log ({type(error).__name__})",
            where=FILE,
            fix="Run the stage that makes it again.",
        ) from error


def _losses(records: list[Mapping[str, Any]], folder: Path) -> Losses:
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
            previews.append(_shot(record, folder))
        else:
            train.append((step, float(record["train_loss"])))
            gradient.append((step, float(record["grad_norm"])))
    return Losses(
        tuple(sorted(train)),
        tuple(tuple(sorted(points)) for _, points in sorted(levels.items())),
        tuple(sorted(gradient)),
        (*_groups(means, "style"), *_groups(means, "character")),
        tuple(previews),
    )


def _groups(means: list[Mapping[str, Any]], kind: str) -> list[Group]:
    points: dict[str, dict[int, float]] = {}
    samples: dict[str, int] = {}
    for record in means:
        for name, found in record[kind].items():
            points.setdefault(name, {})[int(record["step"])] = float(found["loss"])
            samples[name] = int(found["samples"])
    return [
        Group(kind, name, samples[name], tuple(sorted(points[name].items())))
        for name in sorted(points, key=lambda name: (-samples[name], name))
    ]


def _shot(record: Mapping[str, Any], folder: Path) -> Shot:
    return Shot(
        step=int(record["step"]),
        prompt=str(record["prompt"]),
        seed=int(record["seed"]),
        path=folder / record["preview"],
        frames=int(record["frames"]),
        width=int(record["width"]),
        height=int(record["height"]),
    )
