"""Charts as inline SVG. Colours are classes of the page's style sheet; all text is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]


@dataclass(frozen=True)
class Piece:
    """A coloured stretch [start, end) of a strip; ``label`` is what pointing at it shows."""

    start: float
    end: float
    kind: str
    label: str


def bar(parts: Sequence[tuple[str, int]], label: str) -> Markup:
    """One bar of full width, split by the (class, count) parts."""
    total = sum(count for _, count in parts)
    body, x = Markup(), 0.0
    for kind, count in parts:
        if count:
            width = 100 * count / total
            body += Markup('<rect class="{}" x="{}" y="0" width="{}" height="10"/>').format(
                kind, _number(x), _number(width)
            )
            x += width
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    ).format(label, body)


def strip(rows: Sequence[Sequence[Piece]], total: float, label: str) -> Markup:
    """A timeline of ``total`` length: one band of pieces a row, the first the tallest."""
    heights = [28] + [9] * (len(rows) - 1)
    body, y = Markup(), 0
    for pieces, height in zip(rows, heights, strict=True):
        for piece in pieces:
            x = 1000 * piece.start / total
            # A hair of background between two pieces, but never a piece too thin to see.
            width = max(1.5, 1000 * (piece.end - piece.start) / total - 1)
            body += Markup(
                '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
            ).format(piece.kind, _number(x), y, _number(width), height, piece.label)
        y += height + 3
    return Markup(
        '<svg class="strip" viewBox="0 0 1000 {}" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    ).format(y - 3, label, body)


@dataclass(frozen=True)
class Series:
    """A line of a chart."""

    name: str
    kind: str
    points: Sequence[Point]


def lines(series: Sequence[Series], x_label: str, y_label: str, label: str) -> Markup:
    """A line chart with both axes, from the smallest to the largest value of all series."""
    width, height, left, right, top, bottom = 720, 420, 62, 14, 12, 42
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points if math.isfinite(y)]
    x_ticks, y_ticks = ticks(min(xs), max(xs), 8, whole=True), ticks(min(ys), max(ys), 5)
    x0, x1 = min(*xs, x_ticks[0]), max(*xs, x_ticks[-1])
    y0, y1 = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> Point:
        return (
            left + (width - left - right) * (x - x0) / (x1 - x0 or 1),
            height - bottom - (height - top - bottom) * (y - y0) / (y1 - y0 or 1),
        )

    body = Markup()
    for tick in y_ticks:
        x, y = place(x0, tick)
        body += Markup(
            '<line class="gridline" x1="{}" x2="{}" y1="{}" y2="{}"/>'
            '<text x="{}" y="{}" text-anchor="end">{}</text>'
        ).format(left, width - right, _number(y), _number(y), left - 8, _number(y + 4), plain(tick))
    for tick in x_ticks:
        x, _ = place(tick, y0)
        body += Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            _number(x), height - bottom + 18, plain(tick)
        )
    body += Markup(
        '<text x="{}" y="{}" text-anchor="middle">{}</text>'
        '<text transform="translate(14 {}) rotate(-90)" text-anchor="middle">{}</text>'
    ).format((left + width) // 2, height - 6, x_label, (top + height - bottom) // 2, y_label)
    for line in series:
        placed = [place(x, y) for x, y in line.points if math.isfinite(y)]
        path = " ".join(f"{_number(x)},{_number(y)}" for x, y in placed)
        if len(placed) > 1:
            body += Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>').format(
                line.kind, path, line.name
            )
        if 1 <= len(placed) <= 12:
            for x, y in placed:
                body += Markup('<circle class="{}" cx="{}" cy="{}" r="3"/>').format(
                    line.kind, _number(x), _number(y)
                )
    return Markup(
        '<svg class="lines" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(width, height, label, body)


def dots(groups: Sequence[tuple[str, Sequence[float]]], label: str) -> Markup:
    """One row of dots a group on a common scale, with a tick at each group's mean."""
    values = [value for _, group in groups for value in group]
    low, high = min(values), max(values)
    body, y = Markup(), 9
    for kind, group in groups:

        def place(value: float) -> float:
            return 8 + 284 * ((value - low) / (high - low) if high > low else 0.5)

        body += Markup('<line class="gridline" x1="4" x2="296" y1="{}" y2="{}"/>').format(y, y)
        for value in group:
            body += Markup('<circle class="{}" cx="{}" cy="{}" r="4"/>').format(
                kind, _number(place(value)), y
            )
        if group:
            x = _number(place(sum(group) / len(group)))
            body += Markup('<line class="mean {}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                kind, x, x, y - 8, y + 8
            )
        y += 18
    return Markup(
        '<svg class="dots" viewBox="0 0 300 {}" role="img" aria-label="{}">{}</svg>'
    ).format(y - 9, label, body)


def framed(
    picture: str,
    size: tuple[int, int],
    boxes: Sequence[tuple[int, int, int, int]],
    kept: tuple[int, int, int, int],
    label: str,
) -> Markup:
    """A frame (data URI) with boxes (x0, y0, x1, y1) and all but ``kept`` (x, y, w, h) shaded."""
    width, height = size
    x, y, kept_width, kept_height = kept
    outside = f"M0 0H{width}V{height}H0Z M{x} {y}v{kept_height}h{kept_width}v{-kept_height}Z"
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
        w=width, h=height, label=label, picture=picture, outside=outside, marks=marks,
        x=x, y=y, kw=kept_width, kh=kept_height,
    )  # fmt: skip


def ticks(low: float, high: float, wanted: int, *, whole: bool = False) -> list[float]:
    """Round numbers, about ``wanted`` of them, whose first and last enclose [low, high]."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, last + 1)]


def plain(value: float) -> str:
    """A number for people: at most four significant digits, no trailing zeros."""
    return f"{value:.4g}"


def _number(value: float) -> str:
    """A coordinate: two decimals, so that the page does not follow a sum's last bit."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
