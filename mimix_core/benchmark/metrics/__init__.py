"""The metrics by name. A name is ``dimension/backend``: no stand-in goes by a real one's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from mimix_core.benchmark.metrics import (
    brisque_quality,
    dis_flow,
    efficientnet_consistency,
    vbench_metrics,
)
from mimix_core.benchmark.metrics.vbench_metrics import Resources
from mimix_core.benchmark.metrics.video_features import Footage, Unmeasurable
from mimix_core.benchmark.vbench.dimensions import DIMENSIONS
from mimix_core.errors import BadInput

Measure = Callable[[Footage], float]


@dataclass(frozen=True)
class Metric:
    """One metric. ``prepare`` loads what it needs and gives the function from video to value.

    ``files``: of VBench's weights, which ``prepare`` looks for where its resources say.
    """

    name: str
    higher_is_better: bool
    prepare: Callable[[Resources], Measure]
    files: tuple[str, ...] = ()


def _packaged(name: str, higher_is_better: bool, prepare: Callable[[], Measure]) -> Metric:
    """A metric whose weights, if it has any, ship in a package."""
    return Metric(name, higher_is_better, lambda _: prepare())


METRICS = {
    metric.name: metric
    for metric in (
        _packaged("dynamic_degree/dis-flow", True, dis_flow.prepare_dynamic_degree),
        _packaged("imaging_quality/brisque", False, brisque_quality.prepare),
        _packaged(
            "motion_smoothness/frame-interpolation-residual",
            True,
            dis_flow.prepare_motion_smoothness,
        ),
        _packaged("subject_consistency/efficientnet-lite0", True, efficientnet_consistency.prepare),
        *(
            Metric(d.metric, True, partial(vbench_metrics.prepare, d), d.files)
            for d in DIMENSIONS.values()
        ),
    )
}


def chosen(names: Sequence[str]) -> list[Metric]:
    """The metrics of these names, in their order. Raises BadInput for unknown or repeated ones."""
    for name in names:
        if name not in METRICS or names.count(name) > 1:
            raise BadInput(
                f"{name} is {'named twice' if name in METRICS else 'no metric'}",
                where="settings, key scores.metrics",
                fix=f"There are: {', '.join(sorted(METRICS))}.",
            )
    return [METRICS[name] for name in names]


__all__ = ["METRICS", "Footage", "Measure", "Metric", "Resources", "Unmeasurable", "chosen"]
