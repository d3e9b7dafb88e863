"""Draw charts as inline SVG. Colors are classes of the page's style sheet; text is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]


@dataclass(frozen=True)
class StripSegment:
    """A colored segment [start, end) of a strip; ``label`` is its tooltip."""

    start: float
    end: float
    css_class: str
    label: str


def draw_stacked_bar(parts: Sequence[tuple[str, int]], label: str) -> Markup:
    """Draw one bar of full width, split into (class, count) parts."""
    total = sum(count for _, count in parts)
    body, x = Markup(), 0.0
    for css_class, count in parts:
        if count:
            width = 100 * count / total
            body += Markup('<rect class="{}" x="{}" y="0" width="{}" height="10"/>').format(
                css_class, format_coordinate(x), format_coordinate(width)
            )
            x += width
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    ).format(label, body)


def draw_strip(rows: Sequence[Sequence[StripSegment]], length: float, label: str) -> Markup:
    """Draw a timeline of ``length``: one band of segments per row, the first one the tallest."""
    heights = [28] + [9] * (len(rows) - 1)
    body, y = Markup(), 0
    for segments, height in zip(rows, heights, strict=True):
        for segment in segments:
            x = 1000 * segment.start / length
            # A gap of one unit between segments, but no segment is too thin to see.
            width = max(1.5, 1000 * (segment.end - segment.start) / length - 1)
            body += Markup(
                '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
            ).format(
                segment.css_class,
                format_coordinate(x),
                y,
                format_coordinate(width),
                height,
                segment.label,
            )
        y += height + 3
    return Markup(
        '<svg class="strip" viewBox="0 0 1000 {}" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    ).format(y - 3, label, body)


@dataclass(frozen=True)
class LineSeries:
    """A line of a chart."""

    name: str
    css_class: str
    points: Sequence[Point]


def draw_line_chart(series: Sequence[LineSeries], x_label: str, y_label: str, label: str) -> Markup:
    """Draw a line chart with axes from the smallest to the largest value of all series."""
    width, height, left, right, top, bottom = 720, 420, 62, 14, 12, 42
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points if math.isfinite(y)]
    x_ticks, y_ticks = (
        axis_ticks(min(xs), max(xs), 8, integer=True),
        axis_ticks(min(ys), max(ys), 5),
    )
    x0, x1 = min(*xs, x_ticks[0]), max(*xs, x_ticks[-1])
    y0, y1 = y_ticks[0], y_ticks[-1]

    def position(x: float, y: float) -> Point:
        return (
            left + (width - left - right) * (x - x0) / (x1 - x0 or 1),
            height - bottom - (height - top - bottom) * (y - y0) / (y1 - y0 or 1),
        )

    body = Markup()
    for tick in y_ticks:
        x, y = position(x0, tick)
        body += Markup(
            '<line class="gridline" x1="{}" x2="{}" y1="{}" y2="{}"/>'
            '<text x="{}" y="{}" text-anchor="end">{}</text>'
        ).format(
            left,
            width - right,
            format_coordinate(y),
            format_coordinate(y),
            left - 8,
            format_coordinate(y + 4),
            format_number(tick),
        )
    for tick in x_ticks:
        x, _ = position(tick, y0)
        body += Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            format_coordinate(x), height - bottom + 18, format_number(tick)
        )
    body += Markup(
        '<text x="{}" y="{}" text-anchor="middle">{}</text>'
        '<text transform="translate(14 {}) rotate(-90)" text-anchor="middle">{}</text>'
    ).format((left + width) // 2, height - 6, x_label, (top + height - bottom) // 2, y_label)
    for line in series:
        points = [position(x, y) for x, y in line.points if math.isfinite(y)]
        path = " ".join(f"{format_coordinate(x)},{format_coordinate(y)}" for x, y in points)
        if len(points) > 1:
            body += Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>').format(
                line.css_class, path, line.name
            )
        if 1 <= len(points) <= 12:
            for x, y in points:
                body += Markup('<circle class="{}" cx="{}" cy="{}" r="3"/>').format(
                    line.css_class, format_coordinate(x), format_coordinate(y)
                )
    return Markup(
        '<svg class="lines" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(width, height, label, body)


def draw_dot_plot(groups: Sequence[tuple[str, Sequence[float]]], label: str) -> Markup:
    """Draw one row of dots per group on a common scale, with a tick at each group's mean."""
    values = [value for _, group in groups for value in group]
    low, high = min(values), max(values)
    body, y = Markup(), 9
    for css_class, group in groups:

        def position(value: float) -> float:
            return 8 + 284 * ((value - low) / (high - low) if high > low else 0.5)

        body += Markup('<line class="gridline" x1="4" x2="296" y1="{}" y2="{}"/>').format(y, y)
        for value in group:
            body += Markup('<circle class="{}" cx="{}" cy="{}" r="4"/>').format(
                css_class, format_coordinate(position(value)), y
            )
        if group:
            x = format_coordinate(position(sum(group) / len(group)))
            body += Markup('<line class="mean {}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                css_class, x, x, y - 8, y + 8
            )
        y += 18
    return Markup(
        '<svg class="dots" viewBox="0 0 300 {}" role="img" aria-label="{}">{}</svg>'
    ).format(y - 9, label, body)


def draw_annotated_frame(
    image: str,
    size: tuple[int, int],
    boxes: Sequence[tuple[int, int, int, int]],
    crop: tuple[int, int, int, int],
    label: str,
) -> Markup:
    """Draw a frame (data URI) with boxes (x0, y0, x1, y1); shades all but ``crop`` (x, y, w, h)."""
    width, height = size
    x, y, crop_width, crop_height = crop
    outside = f"M0 0H{width}V{height}H0Z M{x} {y}v{crop_height}h{crop_width}v{-crop_height}Z"
    marks = Markup().join(
        Markup('<rect class="textbox" x="{}" y="{}" width="{}" height="{}"/>').format(
            x0, y0, x1 - x0, y1 - y0
        )
        for x0, y0, x1, y1 in boxes
    )
    return Markup(
        '<svg class="framed" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">'
        '<image href="{picture}" width="{w}" height="{h}" preserveAspectRatio="none"/>'
        '<path class="cutaway" fill-rule="evenodd" d="{outside}"/>{marks}'
        '<rect class="kept" x="{x}" y="{y}" width="{kw}" height="{kh}"/></svg>'
    ).format(
        w=width, h=height, label=label, picture=image, outside=outside, marks=marks,
        x=x, y=y, kw=crop_width, kh=crop_height,
    )  # fmt: skip


def axis_ticks(low: float, high: float, count: int, *, integer: bool = False) -> list[float]:
    """Return about ``count`` round numbers whose first and last enclose [low, high]."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    if integer:
        step = max(1.0, float(math.ceil(step)))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, last + 1)]


def format_number(value: float) -> str:
    """Format a number with at most four significant digits, without trailing zeros."""
    return f"{value:.4g}"


def format_coordinate(value: float) -> str:
    """Format a coordinate with two decimals, which hides differences in a sum's last bit."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
