"""The training log that lies beside the lora table, for the loss curve.

``log.jsonl`` in the table's folder holds one JSON object a line, of two kinds:

``{"step": 3, "train_loss": 0.41, ...}``
    Mean loss of the batch of optimizer step 3; steps count from 1.
``{"step": 50, "quantile": 0, "val_loss": 0.37}``
    Mean loss of all held-out samples after 50 steps at the least of the fixed noise levels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mimix_core.errors import BadInput

FILE = "log.jsonl"


@dataclass(frozen=True)
class Losses:
    """Points (step, loss) of training, and of each noise level from the least noise on."""

    train: tuple[tuple[int, float], ...]
    validation: tuple[tuple[tuple[int, float], ...], ...]

    @property
    def steps(self) -> int:
        """Optimizer steps that were taken."""
        return max((step for step, _ in self.train), default=0)


def read_losses(folder: Path) -> Losses:
    """The losses logged beside a lora table. Raises BadInput when the log is not as above."""
    train: list[tuple[int, float]] = []
    levels: dict[int, list[tuple[int, float]]] = {}
    try:
        for line in (folder / FILE).read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if "val_loss" in record:
                point = (int(record["step"]), float(record["val_loss"]))
                levels.setdefault(int(record["quantile"]), []).append(point)
            else:
                train.append((int(record["step"]), float(record["train_loss"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"not a readable training log ({type(error).__name__})",
            where=FILE,
            fix="Run the stage that makes it again.",
        ) from error
    return Losses(
        tuple(sorted(train)), tuple(tuple(sorted(points)) for _, points in sorted(levels.items()))
    )
