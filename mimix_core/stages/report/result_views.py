"""Build the views of training, scores, backends and source tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mimix_core.domain.score_metrics import LOWER_IS_BETTER, RATES_NOISE_ABOVE_FOOTAGE
from mimix_core.engine.artifacts import TableRef
from mimix_core.html import svg_charts
from mimix_core.html.svg_charts import LineSeries
from mimix_core.stages.report import labels
from mimix_core.stages.report.run_tables import RunTable, TableEntry, group_entries
from mimix_core.stages.report.stage_summary import ReasonCount
from mimix_core.stages.report.thumbnails import spaced_indices
from mimix_core.stages.report.training_curves import LossGroup, TrainingCurves
from mimix_core.tables import BackboneRow, LoraRow, ScoreRow

MAX_DOTS = 60
"""Maximum number of dots drawn per row of a plot; statistics include all values."""

MAX_GROUPS = 9
"""Maximum number of distinguishable lines in a chart."""

_X_LABEL = "optimizer step"


@dataclass(frozen=True)
class LegendEntry:
    """A line of a loss chart with its color class and its first and last value."""

    css_class: str
    name: str
    first: str
    last: str


@dataclass(frozen=True)
class ForgettingLine:
    """An old character's held-out loss before and after the training that added another one."""

    name: str
    samples: int
    first: str
    last: str
    change: str


@dataclass(frozen=True)
class TrainingView:
    """Training curves and sample counts. ``group_chart``: held-out loss by style and character.

    ``held_out_samples``: usable samples of other splits than train. ``samples_seen``: training
    samples with repetitions. ``forgetting``: of the old characters, if others were added.
    """

    loss_chart: Markup | None
    legend: tuple[LegendEntry, ...]
    group_chart: Markup | None
    group_legend: tuple[LegendEntry, ...]
    group_total: int
    gradient_chart: Markup | None
    steps: int
    trained_samples: int
    held_out_samples: int
    samples_seen: int
    excluded: tuple[ReasonCount, ...]
    forgetting: tuple[ForgettingLine, ...] = ()


def build_training_view(lora: RunTable[LoraRow], curves: TrainingCurves) -> TrainingView:
    """Build the training view.

    At most ``MAX_GROUPS`` groups are drawn: styles first, then the most frequent characters.
    """
    trained = held_out = seen = 0
    excluded: Counter[str] = Counter()
    for entry in lora.read("seen", "reason"):
        if not entry.ok:
            excluded[str(entry.row["reason"])] += 1
            continue
        trained += bool(entry.row["seen"])
        held_out += not entry.row["seen"]
        seen += entry.row["seen"]
    series = []
    if curves.train:
        series.append(LineSeries("training batches", "line train", curves.train))
    levels = len(curves.validation)
    for index, points in enumerate(curves.validation):
        name = f"held out, noise level {index + 1} of {levels}"
        series.append(LineSeries(name, f"line level-{_level_color(index, levels)}", points))
    drawn = curves.groups[:MAX_GROUPS]
    groups = [
        LineSeries(
            f"{group.name} ({group.kind}, {group.samples} held out)",
            f"line level-{_level_color(index, len(drawn))}",
            group.points,
        )
        for index, group in enumerate(drawn)
    ]
    gradient = (
        [LineSeries("gradient norm", "line train", curves.gradient)] if curves.gradient else []
    )
    return TrainingView(
        loss_chart=_draw_curves(series, "loss", _loss_chart_label(curves)),
        legend=_legend(series),
        group_chart=_draw_curves(groups, "held-out loss", "Held-out loss by style and character"),
        group_legend=_legend(groups),
        group_total=len(curves.groups),
        gradient_chart=_draw_curves(gradient, "gradient norm", "Gradient norm by optimizer step"),
        steps=curves.steps,
        trained_samples=trained,
        held_out_samples=held_out,
        samples_seen=seen,
        excluded=tuple(
            ReasonCount(code, labels.reason_label(code), n) for code, n in sorted(excluded.items())
        ),
        forgetting=tuple(_forgetting_line(group) for group in curves.old_characters),
    )


def _forgetting_line(group: LossGroup) -> ForgettingLine:
    first, last = group.points[0][1], group.points[-1][1]
    return ForgettingLine(
        group.name,
        group.samples,
        svg_charts.format_number(first),
        svg_charts.format_number(last),
        f"{last / first - 1:+.1%}".replace("%", " %"),
    )


def _draw_curves(series: Sequence[LineSeries], y_label: str, label: str) -> Markup | None:
    return svg_charts.draw_line_chart(series, _X_LABEL, y_label, label) if series else None


def _level_color(index: int, count: int) -> int:
    """Return one of the nine line colors, spread as far apart as possible."""
    return round(8 * index / (count - 1)) if count > 1 else 4


def _legend(series: Sequence[LineSeries]) -> tuple[LegendEntry, ...]:
    return tuple(
        LegendEntry(
            line.css_class,
            line.name,
            svg_charts.format_number(line.points[0][1]),
            svg_charts.format_number(line.points[-1][1]),
        )
        for line in series
    )


def _loss_chart_label(curves: TrainingCurves) -> str:
    if not curves.train:
        return "Loss of held-out samples by noise level"
    first, last = curves.train[0][1], curves.train[-1][1]
    return (
        f"Loss over {curves.steps} steps: training from {svg_charts.format_number(first)} "
        f"to {svg_charts.format_number(last)}"
    )


@dataclass(frozen=True)
class ScoreStatistics:
    """A metric's values on generated videos or on real footage."""

    count: int
    failed: int
    mean: str
    low: str
    high: str


@dataclass(frozen=True)
class ScoreView:
    """One metric on generated videos and on real footage.

    ``rates_generated_higher``: in this run. ``rates_noise_higher``: it rates pure noise above
    footage.
    """

    dimension: str
    backend: str
    question: str
    generated: ScoreStatistics
    real: ScoreStatistics
    plot: Markup | None
    rates_generated_higher: bool = False
    rates_noise_higher: bool = False


def build_score_views(scores: Sequence[TableEntry[ScoreRow]]) -> tuple[ScoreView, ...]:
    """Build a view per metric, with real footage for reference."""
    views = []
    for metric, entries in sorted(group_entries(scores, lambda row: row["metric"]).items()):
        dimension, _, backend = metric.partition("/")
        generated = [entry for entry in entries if entry.row["kind"] == "sample"]
        real = [entry for entry in entries if entry.row["kind"] == "clip"]
        groups = [("generated", _sorted_values(generated)), ("real", _sorted_values(real))]
        statistics = _score_statistics(generated), _score_statistics(real)
        label = f"{metric}: generated {statistics[0].mean}, real footage {statistics[1].mean}"
        dots = [
            (css_class, [values[index] for index in spaced_indices(len(values), MAX_DOTS)])
            for css_class, values in groups
        ]
        views.append(
            ScoreView(
                dimension.replace("_", " "),
                backend,
                labels.METRICS.get(dimension, ""),
                *statistics,
                svg_charts.draw_dot_plot(dots, label)
                if any(values for _, values in groups)
                else None,
                rates_generated_higher=_is_rated_higher(metric, *(values for _, values in groups)),
                rates_noise_higher=metric in RATES_NOISE_ABOVE_FOOTAGE,
            )
        )
    return tuple(views)


def _is_rated_higher(metric: str, generated: Sequence[float], real: Sequence[float]) -> bool:
    """Return whether the mean of the generated videos is better than that of real footage."""
    if not generated or not real:
        return False
    difference = sum(generated) / len(generated) - sum(real) / len(real)
    return difference < 0 if metric in LOWER_IS_BETTER else difference > 0


def _sorted_values(scores: Iterable[TableEntry[ScoreRow]]) -> list[float]:
    return sorted(score.row["value"] for score in scores if score.ok)


def _score_statistics(scores: Sequence[TableEntry[ScoreRow]]) -> ScoreStatistics:
    values = _sorted_values(scores)
    failed = sum(not score.ok for score in scores)
    if not values:
        return ScoreStatistics(0, failed, "none", "", "")
    mean = sum(values) / len(values)
    low, high = svg_charts.format_number(values[0]), svg_charts.format_number(values[-1])
    return ScoreStatistics(len(values), failed, svg_charts.format_number(mean), low, high)


@dataclass(frozen=True)
class StageBackends:
    """The backends that a stage used."""

    stage: str
    backends: tuple[str, ...]


@dataclass(frozen=True)
class BackboneComponent:
    """A component of the backbone."""

    name: str
    backbone: str
    parameters: str
    sha256: str


def list_stage_backends(backends: Mapping[str, Iterable[str]]) -> tuple[StageBackends, ...]:
    """List the backends of each stage, sorted; stages without any are omitted."""
    return tuple(
        StageBackends(labels.stage_title(stage), names)
        for stage, given in backends.items()
        if (names := tuple(sorted(filter(None, given))))
    )


def list_backbone_components(
    backbone: Sequence[TableEntry[BackboneRow]],
) -> tuple[BackboneComponent, ...]:
    """List the components of the backbone, with shortened digests."""
    return tuple(
        BackboneComponent(
            row["component"].replace("_", " "),
            row["backbone"],
            f"{row['parameters']:,}" if row["parameters"] else "",
            row["sha256"][:12],
        )
        for row in (entry.row for entry in backbone if entry.ok)
    )


def find_stand_in(backbone: Sequence[TableEntry[BackboneRow]]) -> str:
    """Return the name of a backbone that is not a real model, else ""."""
    names = {entry.row["backbone"] for entry in backbone if entry.ok}
    return ", ".join(sorted(name for name in names if name.startswith(labels.RANDOM_BACKBONES)))


@dataclass(frozen=True)
class SourceTable:
    """A table that the page was made from."""

    stage: str
    unit: str
    rows: int
    key: str
    sha256: str


def list_source_tables(refs: Iterable[TableRef]) -> tuple[SourceTable, ...]:
    """List tables with shortened stage keys and digests."""
    return tuple(
        SourceTable(ref.stage, ref.unit, ref.counts.rows_in, ref.key[:12], ref.sha256[:12])
        for ref in refs
    )
