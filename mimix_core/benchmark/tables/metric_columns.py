"""Define the columns of the paper's tables: metric, title and scale of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

ColumnKind = Literal["VBench", "Judge", "Duel", "Characters"]


@dataclass(frozen=True)
class MetricColumn:
    """One column. ``metric``: dimension/backend or judge/aspect; ``low``, ``high``: its scale."""

    key: str
    title: str
    metric: str
    kind: ColumnKind
    decimals: int
    low: float
    high: float
    higher_is_better: bool = True


def _vbench(key: str, title: str, metric: str) -> MetricColumn:
    return MetricColumn(key, title, metric, "VBench", 4, 0, 1)


def _judge(key: str, title: str, aspect: str) -> MetricColumn:
    return MetricColumn(key, title, f"judge/{aspect}", "Judge", 2, 1, 10)


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

PAPER_COLUMNS = {column.key: column for column in _ALL}
"""The columns of the paper's tables by key."""

PAPER_COLUMN_BY_METRIC = {column.metric: column for column in _ALL}


def paper_columns(keys: Iterable[str]) -> tuple[MetricColumn, ...]:
    """Return the paper's columns of these keys."""
    return tuple(PAPER_COLUMNS[key] for key in keys)


def extra_columns(metrics: Iterable[str]) -> tuple[MetricColumn, ...]:
    """Create columns for metrics that are not in the paper: stand-ins and corrected variants.

    Their scale is unknown: charts omit them.
    """
    from mimix_core.benchmark.metrics import METRICS, find_metric, metric_module

    return tuple(
        MetricColumn(
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
        for metric in sorted(set(metrics) - set(PAPER_COLUMN_BY_METRIC))
    )
