"""How training went, what the metrics say, and what everything was made with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mimix_core.engine.artifacts import TableRef
from mimix_core.html import svg_charts
from mimix_core.html.svg_charts import Series
from mimix_core.stages.report import labels
from mimix_core.stages.report.run_tables import Entry, by
from mimix_core.stages.report.stage_summary import Why
from mimix_core.stages.report.thumbnails import spread
from mimix_core.stages.report.training_curves import Losses

DOTS = 60
"""Measurements drawn a row; the rest is in the numbers beside it."""

GROUPS = 9
"""Lines of a chart that can be told apart."""

_STEP = "optimizer step"


@dataclass(frozen=True)
class Legend:
    """A line of the loss chart, by its colour class."""

    kind: str
    name: str
    first: str
    last: str


@dataclass(frozen=True)
class TrainingView:
    """The curves and who was trained on. ``groups``: held out, by style and by character."""

    curve: Markup | None
    legend: tuple[Legend, ...]
    groups: Markup | None
    groups_legend: tuple[Legend, ...]
    groups_in_all: int
    gradient: Markup | None
    steps: int
    trained: int
    held_out: int
    seen: int
    left_out: tuple[Why, ...]


def training_view(lora: Sequence[Entry], losses: Losses) -> TrainingView:
    """``held_out``: usable samples of another split than train. ``seen``: times in all.

    At most ``GROUPS`` groups are drawn: styles first, then the characters seen most.
    """
    usable = [row for row in lora if row.ok]
    trained = [row for row in usable if row["seen"]]
    series = []
    if losses.train:
        series.append(Series("training batches", "line train", losses.train))
    levels = len(losses.validation)
    for index, points in enumerate(losses.validation):
        name = f"held out, noise level {index + 1} of {levels}"
        series.append(Series(name, f"line level-{_tone(index, levels)}", points))
    groups = [
        Series(
            f"{group.name} ({group.kind}, {group.samples} held out)",
            f"line level-{_tone(index, min(len(losses.groups), GROUPS))}",
            group.held_out,
        )
        for index, group in enumerate(losses.groups[:GROUPS])
    ]
    gradient = [Series("gradient norm", "line train", losses.gradient)] if losses.gradient else []
    left_out = Counter(row["reason"] for row in lora if not row.ok)
    return TrainingView(
        curve=svg_charts.lines(series, _STEP, "loss", _curve_label(losses)) if series else None,
        legend=_legend(series),
        groups=svg_charts.lines(
            groups, _STEP, "held-out loss", "Held-out loss by style and character"
        )
        if groups
        else None,
        groups_legend=_legend(groups),
        groups_in_all=len(losses.groups),
        gradient=svg_charts.lines(
            gradient, _STEP, "gradient norm", "Gradient norm by optimizer step"
        )
        if gradient
        else None,
        steps=losses.steps,
        trained=len(trained),
        held_out=len(usable) - len(trained),
        seen=sum(row["seen"] for row in trained),
        left_out=tuple(Why(code, labels.reason(code), n) for code, n in sorted(left_out.items())),
    )


def _tone(index: int, count: int) -> int:
    """One of the nine tones for the line of that number, as far apart as they can be."""
    return round(8 * index / (count - 1)) if count > 1 else 4


def _legend(series: Sequence[Series]) -> tuple[Legend, ...]:
    return tuple(
        Legend(
            line.kind,
            line.name,
            svg_charts.plain(line.points[0][1]),
            svg_charts.plain(line.points[-1][1]),
        )
        for line in series
    )


def _curve_label(losses: Losses) -> str:
    if not losses.train:
        return "Loss of held-out samples by noise level"
    first, last = losses.train[0][1], losses.train[-1][1]
    return (
        f"Loss over {losses.steps} steps: training from {svg_charts.plain(first)} "
        f"to {svg_charts.plain(last)}"
    )


@dataclass(frozen=True)
class Side:
    """A metric's values on generated videos or on real footage."""

    count: int
    failed: int
    mean: str
    low: str
    high: str


@dataclass(frozen=True)
class ScoreView:
    """One metric."""

    dimension: str
    backend: str
    asks: str
    generated: Side
    real: Side
    dots: Markup | None


def score_views(scores: Sequence[Entry]) -> tuple[ScoreView, ...]:
    """A line a metric, generated videos beside real footage for scale."""
    found = []
    for metric, rows in sorted(by(scores, "metric").items()):
        dimension, _, backend = metric.partition("/")
        generated = [row for row in rows if row["kind"] == "sample"]
        real = [row for row in rows if row["kind"] == "clip"]
        groups = [("generated", _values(generated)), ("real", _values(real))]
        sides = _side(generated), _side(real)
        label = f"{metric}: generated {sides[0].mean}, real footage {sides[1].mean}"
        drawn = [
            (kind, [values[index] for index in spread(len(values), DOTS)])
            for kind, values in groups
        ]
        found.append(
            ScoreView(
                dimension.replace("_", " "),
                backend,
                labels.METRICS.get(dimension, ""),
                *sides,
                svg_charts.dots(drawn, label) if any(values for _, values in groups) else None,
            )
        )
    return tuple(found)


def _values(rows: Iterable[Entry]) -> list[float]:
    return sorted(row["value"] for row in rows if row.ok)


def _side(rows: Sequence[Entry]) -> Side:
    values = _values(rows)
    failed = sum(not row.ok for row in rows)
    if not values:
        return Side(0, failed, "none", "", "")
    mean = sum(values) / len(values)
    low, high = svg_charts.plain(values[0]), svg_charts.plain(values[-1])
    return Side(len(values), failed, svg_charts.plain(mean), low, high)


@dataclass(frozen=True)
class Maker:
    """What did a stage's work."""

    stage: str
    who: tuple[str, ...]


@dataclass(frozen=True)
class Component:
    """A part of the backbone."""

    name: str
    backbone: str
    parameters: str
    sha256: str


def makers(named: Iterable[tuple[str, Sequence[Entry], Sequence[str]]]) -> tuple[Maker, ...]:
    """The backends that (stage, rows, columns) name, sorted; stages that name none are left out."""
    found = []
    for stage, rows, columns in named:
        who = {str(row[column]) for row in rows for column in columns if row[column]}
        if who:
            found.append(Maker(labels.stage(stage).title, tuple(sorted(who))))
    return tuple(found)


def components(backbone: Sequence[Entry]) -> tuple[Component, ...]:
    """The parts of the backbone, with short digests."""
    return tuple(
        Component(
            row["component"].replace("_", " "),
            row["backbone"],
            f"{row['parameters']:,}" if row["parameters"] else "",
            row["sha256"][:12],
        )
        for row in backbone
        if row.ok
    )


def stand_in(backbone: Sequence[Entry]) -> str:
    """The backbone's name when it is none of the real ones, else ""."""
    names = sorted({row["backbone"] for row in backbone if row.ok} - labels.REAL_BACKBONES)
    return ", ".join(names)


@dataclass(frozen=True)
class Origin:
    """A table that the page was made from."""

    stage: str
    unit: str
    rows: int
    key: str
    sha256: str


def origins(refs: Iterable[TableRef]) -> tuple[Origin, ...]:
    """Stage keys and table digests, short."""
    return tuple(
        Origin(ref.stage, ref.unit, ref.counts.rows_in, ref.key[:12], ref.sha256[:12])
        for ref in refs
    )
