"""The columns of the paper's tables: which metric each is, and on which scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["VBench", "Judge", "Duel"]


@dataclass(frozen=True)
class Measure:
    """One column. ``metric`` is its honest name (``dimension/backend``, or ``judge/aspect``)."""

    key: str
    title: str
    metric: str
    kind: Kind
    decimals: int
    low: float
    high: float
    higher_is_better: bool = True


def _vbench(key: str, title: str, metric: str) -> Measure:
    return Measure(key, title, metric, "VBench", 4, 0, 1)


def _judge(key: str, title: str, aspect: str) -> Measure:
    return Measure(key, title, f"judge/{aspect}", "Judge", 2, 1, 10)


_ALL = (
    _vbench("consistency", "Consistency", "overall_consistency/viclip"),
    _vbench("subject", "Subject-C", "subject_consistency/dino"),
    _vbench("background", "Background-C", "background_consistency/clip"),
    _vbench("motion", "Motion", "motion_smoothness/amt-s"),
    _vbench("dynamic", "Dynamic", "dynamic_degree/raft"),
    _vbench("quality", "Quality", "imaging_quality/musiq"),
    _vbench("aesthetic", "Aesthetic", "aesthetic_quality/laion"),
    _judge("identity", "Identity-P", "identity"),
    _judge("motion-p", "Motion-P", "motion"),
    _judge("style", "Style-P", "style"),
    _judge("interaction", "Interaction-P", "interaction"),
)

MEASURES = {measure.key: measure for measure in _ALL}
"""The paper's, by key."""

BY_METRIC = {measure.metric: measure for measure in _ALL}


def measures(keys: Iterable[str]) -> tuple[Measure, ...]:
    """The paper's columns of these keys."""
    return tuple(MEASURES[key] for key in keys)


def further(metrics: Iterable[str]) -> tuple[Measure, ...]:
    """Columns for what the paper's tables have no place for: stand-ins and corrected variants.

    Their scale is not known: charts leave them out.
    """
    from mimix_core.benchmark.metrics import METRICS, find_metric, metric_module

    return tuple(
        Measure(
            metric,
            metric,
            metric,
            "VBench",
            4,
            0,
            0,
            higher_is_better=find_metric(metric).higher_is_better
            if metric in METRICS or metric_module(metric) is not None
            else True,
        )
        for metric in sorted(set(metrics) - set(BY_METRIC))
    )
