"""VBench's own dimensions as metrics of the scores stage, on weights that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mimix_core.benchmark.metrics.video_features import Footage
from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.dimensions import Dimension
from mimix_core.errors import MissingModel

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Resources:
    """What metrics may need: VBench's weights, and the device that networks run on."""

    weights: Path | None = None
    device: torch.device | None = None


def prepare(dimension: Dimension, resources: Resources) -> Callable[[Footage], float]:
    """The metric. Raises MissingModel without its weights, BadInput for other weights."""
    import torch

    if resources.weights is None:
        raise MissingModel(
            f"{dimension.metric} needs VBench's weights",
            where="settings, key scores.weights",
            fix="Write the folder that has them, or leave the metric out of scores.metrics.",
        )
    vbench_weights.check(resources.weights, dimension.files)
    model = dimension.load(resources.weights, resources.device or torch.device("cpu"))
    score = dimension.scorer()

    def measure(footage: Footage) -> float:
        return score(model, footage.vbench)

    return measure
