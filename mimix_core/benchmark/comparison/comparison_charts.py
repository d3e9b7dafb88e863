"""Draw radar and bar charts as inline SVG. Systems are colored by classes of the style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mimix_core.benchmark.tables.metric_columns import MetricColumn
from mimix_core.benchmark.tables.table_model import TableCell
from mimix_core.html.svg_charts import Point, format_coordinate, format_number

MIN_SPOKES = 3
"""A radar chart with two spokes is only a line."""

NUM_COLORS = 8
"""Number of system colors in the style sheet."""


def system_color(number: int) -> int:
    """Return the color of a system; colors repeat from the ninth system on."""
    return number % NUM_COLORS


@dataclass(frozen=True)
class ChartSeries:
    """A system's cells in a chart; ``color`` is the number of its color class."""

    name: str
    color: int
    cells: tuple[TableCell, ...]


def draw_radar_chart(
    columns: Sequence[MetricColumn], series: Sequence[ChartSeries], label: str
) -> Markup:
    """Draw a polygon per system; each spoke has the full scale of its metric.

    Spokes are the metrics for which every system has a value; empty with fewer than three.
    """
    spokes = [
        column_index
        for column_index, column in enumerate(columns)
        if column.high > column.low
        and all(entry.cells[column_index].value is not None for entry in series)
    ]
    if len(spokes) < MIN_SPOKES or not series:
        return Markup()
    width, height, radius = 540, 400, 150.0
    center = (width / 2, height / 2)

    def point_at(spoke: int, position: float) -> Point:
        angle = 2 * math.pi * spoke / len(spokes) - math.pi / 2
        return (
            center[0] + radius * position * math.cos(angle),
            center[1] + radius * position * math.sin(angle),
        )

    body = Markup()
    for ring in (0.25, 0.5, 0.75, 1.0):
        body += Markup('<polygon class="ring" points="{}"/>').format(
            _format_points([point_at(spoke, ring) for spoke in range(len(spokes))])
        )
    for number, column_index in enumerate(spokes):
        column = columns[column_index]
        x, y = point_at(number, 1.0)
        body += Markup('<line class="gridline" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
            format_coordinate(center[0]),
            format_coordinate(center[1]),
            format_coordinate(x),
            format_coordinate(y),
        )
        x, y = point_at(number, 1.13)
        side = x - center[0]
        anchor = "middle" if abs(side) < 20 else "start" if side > 0 else "end"
        body += Markup(
            '<text x="{}" y="{}" text-anchor="{}">{}<tspan class="scale" x="{}" dy="15">'
            "{} to {}</tspan></text>"
        ).format(
            format_coordinate(x), format_coordinate(y - 2), anchor, column.title,
            format_coordinate(x),
            format_number(column.low), format_number(column.high),
        )  # fmt: skip
    for entry in series:
        points = []
        for number, column_index in enumerate(spokes):
            column, value = columns[column_index], entry.cells[column_index].value
            if value is None:
                raise ValueError("a system has no value for this spoke")
            points.append(point_at(number, _scale_position(value, column)))
        body += Markup('<polygon class="trace sys-{}" points="{}"><title>{}</title></polygon>'
        ).format(entry.color, _format_points(points), entry.name)  # fmt: skip
        for x, y in points:
            body += Markup('<circle class="sys-{}" cx="{}" cy="{}" r="3"/>').format(
                entry.color, format_coordinate(x), format_coordinate(y)
            )
    return Markup(
        '<svg class="radar" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(width, height, label, body)


def draw_bar_chart(
    column: MetricColumn, groups: Sequence[tuple[str, Sequence[ChartSeries]]], label: str
) -> Markup:
    """Draw groups of bars with intervals as whiskers; each series has one cell.

    Bars have the full scale of the metric, so that differences are not exaggerated.
    """
    width, left, right, row, gap = 360, 8, 58, 17, 26
    body, y = Markup(), 0
    for title, group in groups:
        if title:
            body += Markup('<text class="group" x="{}" y="{}">{}</text>').format(
                left, y + 13, title
            )
            y += 20
        for entry in group:
            body += _draw_bar(column, entry, (left, width - right, y, row))
            y += row + 3
        y += gap - row
    return Markup(
        '<svg class="bars" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(width, max(y - gap + row, 1), label, body)


def _draw_bar(column: MetricColumn, entry: ChartSeries, box: tuple[int, int, int, int]) -> Markup:
    left, right, y, row = box
    (cell,) = entry.cells
    center = y + row / 2

    def x_at(value: float) -> float:
        return left + (right - left) * _scale_position(value, column)

    body = Markup('<rect class="track" x="{}" y="{}" width="{}" height="{}"/>').format(
        left, y, right - left, row
    )
    if cell.value is not None:
        body += Markup(
            '<rect class="sys-{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
        ).format(
            entry.color, left, y, format_coordinate(x_at(cell.value) - left), row,
            f"{entry.name}: {cell.format_value(column.decimals)} "
            f"{cell.format_interval(column.decimals)} {cell.format_count()}".rstrip(),
        )  # fmt: skip
    if cell.low is not None and cell.high is not None:
        low, high = format_coordinate(x_at(cell.low)), format_coordinate(x_at(cell.high))
        body += Markup('<path class="whisker" d="M{} {}V{}M{} {}V{}M{} {}H{}"/>').format(
            low, format_coordinate(center - 4), format_coordinate(center + 4),
            high, format_coordinate(center - 4), format_coordinate(center + 4),
            low, format_coordinate(center), high,
        )  # fmt: skip
    return body + Markup('<text x="{}" y="{}">{}</text>').format(
        right + 6, format_coordinate(center + 4), cell.format_value(column.decimals)
    )


def _scale_position(value: float, column: MetricColumn) -> float:
    """Return the position of a value on its scale, from 0 to 1."""
    return min(1.0, max(0.0, (value - column.low) / (column.high - column.low)))


def _format_points(points: Sequence[Point]) -> str:
    return " ".join(f"{format_coordinate(x)},{format_coordinate(y)}" for x, y in points)
