"""VBench's own dimensions as metrics of the scores stage, with weights that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mimix_core.benchmark.metrics.video_features import VideoFeatures
from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.dimensions import Dimension
from mimix_core.errors import MissingModel

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MetricResources:
    """What metrics may need: the folder of VBench's weights, and the device for networks."""

    weights: Path | None = None
    device: torch.device | None = None


def build_vbench_metric(
    dimension: Dimension, resources: MetricResources
) -> Callable[[VideoFeatures], float]:
    """Load a dimension's model and return its metric function.

    Raises MissingModel without its weights, BadInput for weights of another network.
    """
    import torch

    if resources.weights is None:
        raise MissingModel(
            f"{dimension.metric} needs VBench's weights",
            where="settings, key scores.weights",
            fix="Set it to the folder of the weights, or remove the metric from scores.metrics.",
        )
    vbench_weights.check_weights(resources.weights, dimension.files)
    model = dimension.load(resources.weights, resources.device or torch.device("cpu"))
    score_video = dimension.scorer()

    def measure(features: VideoFeatures) -> float:
        return score_video(model, features.vbench_video)

    return measure
