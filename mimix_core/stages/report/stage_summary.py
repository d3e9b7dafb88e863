"""Summarize what went through each stage, the dataset, and the run's key figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from markupsafe import Markup

from mimix_core.engine.artifacts import Counts
from mimix_core.engine.registry import get_stage
from mimix_core.html import svg_charts
from mimix_core.stages.report import labels
from mimix_core.stages.report.report_inputs import UnitSummary
from mimix_core.stages.report.run_tables import RunTable
from mimix_core.stages.report.timelines import FootageSummary
from mimix_core.stages.report.training_curves import TrainingCurves
from mimix_core.tables import DatasetRow


@dataclass(frozen=True)
class ReasonCount:
    """How many rows have a reason."""

    code: str
    label: str
    count: int


@dataclass(frozen=True)
class StageOverview:
    """One stage summed over all its units."""

    name: str
    title: str
    description: str
    row_noun: str
    counts: Counts
    reasons: tuple[ReasonCount, ...]
    units: tuple[UnitSummary, ...]
    bar: Markup

    @property
    def adds_up(self) -> bool:
        counts = self.counts
        return counts.rows_in == counts.ok + counts.rejected + counts.failed


def sum_counts(counts: Sequence[Counts]) -> Counts:
    """Sum counts over units or stages."""
    return Counts(
        rows_in=sum(c.rows_in for c in counts),
        ok=sum(c.ok for c in counts),
        rejected=sum(c.rejected for c in counts),
        failed=sum(c.failed for c in counts),
    )


def summarize_stages(records: Sequence[UnitSummary]) -> tuple[StageOverview, ...]:
    """Summarize all stages in pipeline order; stages unknown to the page come last."""
    order = {name: index for index, name in enumerate(labels.stage_order())}
    names = sorted({r.stage for r in records}, key=lambda name: (order.get(name, 99), name))
    stages = []
    for name in names:
        stage = get_stage(name)
        units = tuple(
            sorted((r for r in records if r.stage == name), key=lambda record: record.unit)
        )
        counts = sum_counts([unit.counts for unit in units])
        reasons: Counter[str] = Counter()
        for unit in units:
            reasons.update(unit.reasons)
        reason_counts = tuple(
            ReasonCount(code, labels.reason_label(code), count)
            for code, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        )
        parts = [("ok", counts.ok), ("rejected", counts.rejected), ("failed", counts.failed)]
        label = f"{counts.ok} ok, {counts.rejected} rejected, {counts.failed} failed"
        bar = svg_charts.draw_stacked_bar(parts, label)
        stages.append(
            StageOverview(
                name,
                stage.title,
                stage.description,
                stage.row_noun,
                counts,
                reason_counts,
                units,
                bar,
            )
        )
    return tuple(stages)


@dataclass(frozen=True)
class KeyFigure:
    """A number at the top of the page."""

    value: str
    label: str


def build_key_figures(
    footage: FootageSummary,
    clips: int,
    captions: int,
    dataset: DatasetView,
    trainings: Sequence[TrainingCurves],
    videos: int,
) -> tuple[KeyFigure, ...]:
    """Build the figures of how much footage went in and what was produced from it.

    ``clips``, ``captions``, ``videos``: how many are usable.
    """
    return (
        KeyFigure(f"{len(footage.episodes):,}", "episodes"),
        KeyFigure(labels.format_clock(float(footage.seconds)), "of footage"),
        KeyFigure(f"{clips:,}", "clips"),
        KeyFigure(f"{captions:,}", "captions"),
        KeyFigure(f"{dataset.composites:,}", "composites"),
        KeyFigure(dataset.share, "of training is mixed"),
        KeyFigure(f"{sum(curves.steps for curves in trainings):,}", "training steps"),
        KeyFigure(f"{videos:,}", "generated videos"),
    )


def format_share(part: int, total: int) -> str:
    """Format a share as a percentage, with one decimal unless it is an integer."""
    if not total:
        return "0 %"
    percent = Fraction(100 * part, total)
    return f"{percent.numerator} %" if percent.denominator == 1 else f"{float(percent):.1f} %"


@dataclass(frozen=True)
class DatasetGroup:
    """The samples of one split and show."""

    split: str
    show: str
    style: str
    originals: int
    composites: int


@dataclass(frozen=True)
class DatasetSplit:
    """The samples of one split. ``share``: of composites."""

    name: str
    originals: int
    composites: int
    share: str


@dataclass(frozen=True)
class DatasetView:
    """The training data. ``originals``, ``composites`` and ``share``: of the split train."""

    groups: tuple[DatasetGroup, ...]
    splits: tuple[DatasetSplit, ...]
    originals: int
    composites: int
    share: str
    excluded: tuple[ReasonCount, ...]
    bar: Markup


def build_dataset_view(dataset: RunTable[DatasetRow], titles: dict[str, str]) -> DatasetView:
    """Count samples by split, show and kind, and excluded rows by reason."""
    counted: Counter[tuple[str, str, str, str]] = Counter()
    excluded: Counter[str] = Counter()
    for entry in dataset.read("split", "show", "style", "kind", "reason"):
        row = entry.row
        if entry.ok:
            counted[row["split"], row["show"], row["style"], row["kind"]] += 1
        else:
            excluded[str(row["reason"])] += 1
    keys = sorted({key[:3] for key in counted}, key=lambda key: (_split_order(key[0]), key))
    groups = tuple(
        DatasetGroup(
            split,
            titles.get(show, show),
            style,
            counted[(split, show, style, "original")],
            counted[(split, show, style, "composite")],
        )
        for split, show, style in keys
    )
    splits = tuple(
        _dataset_split(name, groups) for name in dict.fromkeys(group.split for group in groups)
    )
    train = _dataset_split("train", groups)
    return DatasetView(
        groups,
        splits,
        train.originals,
        train.composites,
        train.share,
        tuple(
            ReasonCount(code, labels.reason_label(code), n) for code, n in sorted(excluded.items())
        ),
        svg_charts.draw_stacked_bar(
            [("original", train.originals), ("made", train.composites)],
            f"{train.originals} originals, {train.composites} composites",
        ),
    )


def _dataset_split(name: str, groups: Sequence[DatasetGroup]) -> DatasetSplit:
    originals = sum(group.originals for group in groups if group.split == name)
    composites = sum(group.composites for group in groups if group.split == name)
    share = format_share(composites, originals + composites)
    return DatasetSplit(name, originals, composites, share)


def _split_order(split: str) -> int:
    return {"train": 0, "val": 1, "test": 2}.get(split, 3)
