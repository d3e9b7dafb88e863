"""The metrics by name. A name is ``dimension/backend``: no stand-in goes by a real one's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mimix_core.benchmark.metrics import consistency, motion, quality
from mimix_core.benchmark.metrics.footage import Footage, Unmeasurable
from mimix_core.errors import BadInput

Measure = Callable[[Footage], float]


@dataclass(frozen=True)
class Metric:
    """One metric. ``prepare`` loads what it needs and gives the function from video to value."""

    name: str
    higher_is_better: bool
    prepare: Callable[[], Measure]


METRICS = {
    metric.name: metric
    for metric in (
        Metric("dynamic_degree/dis-flow", True, motion.prepare_dynamic_degree),
        Metric("imaging_quality/brisque", False, quality.prepare),
        Metric(
            "motion_smoothness/frame-interpolation-residual",
            True,
            motion.prepare_motion_smoothness,
        ),
        Metric("subject_consistency/efficientnet-lite0", True, consistency.prepare),
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


__all__ = ["METRICS", "Footage", "Measure", "Metric", "Unmeasurable", "chosen"]
