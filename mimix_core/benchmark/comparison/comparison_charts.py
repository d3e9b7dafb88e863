"""Radar and bars as inline SVG. Systems are told by classes of the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mimix_core.benchmark.tables.metric_columns import Measure
from mimix_core.benchmark.tables.table_model import Cell
from mimix_core.html.svg_charts import Point, plain

FEWEST_SPOKES = 3
"""A radar of two is a line."""

TONES = 8
"""Colours of the style sheet."""


def tone(number: int) -> int:
    """The colour of a system; the ninth has the first one's again."""
    return number % TONES


@dataclass(frozen=True)
class Trace:
    """A system's cells in a chart; ``tone`` numbers its colour."""

    name: str
    tone: int
    cells: tuple[Cell, ...]


def radar(columns: Sequence[Measure], traces: Sequence[Trace], label: str) -> Markup:
    """A polygon a system, each spoke on its measure's own scale from its lowest to its highest.

    Spokes are those that every system has a value of; empty when these are fewer than three.
    """
    spokes = [
        place
        for place, column in enumerate(columns)
        if column.high > column.low and all(t.cells[place].value is not None for t in traces)
    ]
    if len(spokes) < FEWEST_SPOKES or not traces:
        return Markup()
    width, height, reach = 540, 400, 150.0
    middle = (width / 2, height / 2)

    def at(spoke: int, share: float) -> Point:
        angle = 2 * math.pi * spoke / len(spokes) - math.pi / 2
        return (
            middle[0] + reach * share * math.cos(angle),
            middle[1] + reach * share * math.sin(angle),
        )

    body = Markup()
    for ring in (0.25, 0.5, 0.75, 1.0):
        body += Markup('<polygon class="ring" points="{}"/>').format(
            _points([at(spoke, ring) for spoke in range(len(spokes))])
        )
    for number, place in enumerate(spokes):
        column = columns[place]
        x, y = at(number, 1.0)
        body += Markup('<line class="gridline" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
            _number(middle[0]), _number(middle[1]), _number(x), _number(y)
        )
        x, y = at(number, 1.13)
        side = x - middle[0]
        anchor = "middle" if abs(side) < 20 else "start" if side > 0 else "end"
        body += Markup(
            '<text x="{}" y="{}" text-anchor="{}">{}<tspan class="scale" x="{}" dy="15">'
            "{} to {}</tspan></text>"
        ).format(
            _number(x), _number(y - 2), anchor, column.title, _number(x),
            plain(column.low), plain(column.high),
        )  # fmt: skip
    for trace in traces:
        placed = []
        for number, place in enumerate(spokes):
            column, value = columns[place], trace.cells[place].value
            if value is None:
                raise ValueError("a spoke that not every system has")
            placed.append(at(number, _share(value, column)))
        body += Markup('<polygon class="trace sys-{}" points="{}"><title>{}</title></polygon>'
        ).format(trace.tone, _points(placed), trace.name)  # fmt: skip
        for x, y in placed:
            body += Markup('<circle class="sys-{}" cx="{}" cy="{}" r="3"/>').format(
                trace.tone, _number(x), _number(y)
            )
    return Markup(
        '<svg class="radar" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(width, height, label, body)


def bars(column: Measure, groups: Sequence[tuple[str, Sequence[Trace]]], label: str) -> Markup:
    """Bars with their intervals as whiskers, group under group; traces have one cell each.

    The scale is the measure's own, from its lowest to its highest: nothing is cut off to make a
    difference look larger.
    """
    width, left, right, row, gap = 360, 8, 58, 17, 26
    body, y = Markup(), 0
    for title, traces in groups:
        if title:
            body += Markup('<text class="group" x="{}" y="{}">{}</text>').format(
                left, y + 13, title
            )
            y += 20
        for trace in traces:
            body += _bar(column, trace, (left, width - right, y, row))
            y += row + 3
        y += gap - row
    return Markup(
        '<svg class="bars" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(width, max(y - gap + row, 1), label, body)


def _bar(column: Measure, trace: Trace, box: tuple[int, int, int, int]) -> Markup:
    left, right, y, row = box
    (cell,) = trace.cells
    middle = y + row / 2

    def at(value: float) -> float:
        return left + (right - left) * _share(value, column)

    body = Markup('<rect class="track" x="{}" y="{}" width="{}" height="{}"/>').format(
        left, y, right - left, row
    )
    if cell.value is not None:
        body += Markup(
            '<rect class="sys-{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
        ).format(
            trace.tone, left, y, _number(at(cell.value) - left), row,
            f"{trace.name}: {cell.text(column.decimals)} "
            f"{cell.range(column.decimals)} {cell.count()}".rstrip(),
        )  # fmt: skip
    if cell.low is not None and cell.high is not None:
        low, high = _number(at(cell.low)), _number(at(cell.high))
        body += Markup('<path class="whisker" d="M{} {}V{}M{} {}V{}M{} {}H{}"/>').format(
            low, _number(middle - 4), _number(middle + 4),
            high, _number(middle - 4), _number(middle + 4),
            low, _number(middle), high,
        )  # fmt: skip
    return body + Markup('<text x="{}" y="{}">{}</text>').format(
        right + 6, _number(middle + 4), cell.text(column.decimals)
    )


def _share(value: float, column: Measure) -> float:
    """Where on its scale a value is, from 0 to 1."""
    return min(1.0, max(0.0, (value - column.low) / (column.high - column.low)))


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _number(value: float) -> str:
    """A coordinate: two decimals, so that the page does not follow a sum's last bit."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
