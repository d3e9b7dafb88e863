"""Look up metrics by name.

A name is ``dimension/backend``, so a substitute backend never has the name of the original metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.metrics import (
    brisque_quality,
    dis_flow,
    efficientnet_consistency,
    vbench_metrics,
)
from mimix_core.benchmark.metrics.vbench_metrics import MetricResources
from mimix_core.benchmark.metrics.video_features import VideoFeatures
from mimix_core.benchmark.vbench.dimensions import DIMENSIONS
from mimix_core.domain.score_metrics import LOWER_IS_BETTER, RATES_NOISE_ABOVE_FOOTAGE
from mimix_core.engine.extensions import is_module_name, load_extension
from mimix_core.errors import BadInput

MetricFunction = Callable[[VideoFeatures], float]

SETTING = "settings, key scores.metrics"


@dataclass(frozen=True)
class Metric:
    """One metric. ``build`` loads its model and returns the function from video to value.

    ``files``: the files of VBench's weights folder that ``build`` reads.
    ``rates_noise_above_footage``: it rates pure noise at least as high as real footage.
    """

    name: str
    higher_is_better: bool
    build: Callable[[MetricResources], MetricFunction]
    files: tuple[str, ...] = ()
    rates_noise_above_footage: bool = False


def _packaged(name: str, build: Callable[[], MetricFunction]) -> Metric:
    """Define a metric that has no weights, or whose weights ship in an installed package."""
    return Metric(
        name,
        name not in LOWER_IS_BETTER,
        lambda _: build(),
        rates_noise_above_footage=name in RATES_NOISE_ABOVE_FOOTAGE,
    )


METRICS = {
    metric.name: metric
    for metric in (
        _packaged("dynamic_degree/dis-flow", dis_flow.build_dynamic_degree),
        _packaged("imaging_quality/brisque", brisque_quality.build_imaging_quality),
        _packaged(
            "motion_smoothness/frame-interpolation-residual",
            dis_flow.build_motion_smoothness,
        ),
        _packaged(
            "subject_consistency/efficientnet-lite0",
            efficientnet_consistency.build_subject_consistency,
        ),
        *(
            Metric(d.metric, True, partial(vbench_metrics.build_vbench_metric, d), d.files)
            for d in DIMENSIONS.values()
        ),
    )
}


def find_metric(name: str) -> Metric:
    """Return a metric by its name ``dimension/backend``.

    A backend with a dot is the module of a metric from outside MiMix (docs/extending/metric.md).
    Raises BadInput for an unknown name.
    """
    if name in METRICS:
        return METRICS[name]
    module = metric_module(name)
    if module is None:
        raise BadInput(
            f"unknown metric {name}",
            where=SETTING,
            fix=f"Available metrics: {', '.join(sorted(METRICS))}.",
        )
    metric = load_extension(module, "METRIC", Metric, setting=SETTING.rpartition(" ")[2])
    if metric.name != name:
        raise BadInput(
            f"the metric of module {module} is named {metric.name}, not {name}",
            where=SETTING,
            fix="Write the same name in both places.",
        )
    return metric


def metric_module(name: str) -> str | None:
    """Return the module of a metric from outside MiMix; None for MiMix's own metrics."""
    backend = name.partition("/")[2]
    return backend if name not in METRICS and is_module_name(backend) else None


def select_metrics(names: Sequence[str]) -> list[Metric]:
    """Return the named metrics in order. Raises BadInput for unknown or repeated names."""
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"metric {name} is listed twice", where=SETTING)
    return [find_metric(name) for name in names]


__all__ = [
    "METRICS",
    "Metric",
    "MetricFunction",
    "MetricResources",
    "Unmeasurable",
    "VideoFeatures",
    "find_metric",
    "metric_module",
    "select_metrics",
]
