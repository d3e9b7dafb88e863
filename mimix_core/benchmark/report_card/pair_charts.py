"""Draw shares of pairs with their intervals, readable without colors, and small meters."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from mimix_core.benchmark.report_card.pair_scores import Criterion, Pair, PairCell
from mimix_core.benchmark.tables.table_model import TableCell
from mimix_core.domain.library import Style
from mimix_core.html.svg_charts import format_coordinate

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW, _GAP = 540, 190, 52, 26, 17, 8
_MAX_LABEL = 22
"""Characters of a label; the tooltip has all of them."""


def draw_pair_chart(pairs: Sequence[Pair], criterion: Criterion, label: str) -> Markup:
    """Draw a row for each pair and background with videos: its share, and its interval as a line.

    Circles are cartoon backgrounds, squares realistic ones, so that gray paper tells them apart.
    """
    body, y = Markup(), _TOP
    for pair in pairs:
        cells = [cell for cell in pair.cells if cell.share(criterion).value is not None]
        if not cells:
            continue
        name = f"{pair.first.name} + {pair.second.name}"
        body += Markup('<text x="{}" y="{}" text-anchor="end"><title>{}</title>{}</text>').format(
            _LEFT - 12, y + _ROW * len(cells) / 2 + 4, name, _shorten(name)
        )
        for cell in cells:
            body += _draw_row(cell, criterion, y + _ROW / 2)
            y += _ROW
        y += _GAP
    if y == _TOP:
        return Markup()
    return Markup(
        '<svg class="shares" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>'
    ).format(_WIDTH, y, label, _draw_axis(y), body)


def _x_at(share: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share


def _draw_axis(bottom: float) -> Markup:
    axis = Markup()
    for percent in (0, 25, 50, 75, 100):
        x = format_coordinate(_x_at(percent / 100))
        axis += Markup(
            '<line class="gridline" x1="{}" x2="{}" y1="{}" y2="{}"/>'
            '<text class="tick" x="{}" y="{}" text-anchor="middle">{} %</text>'
        ).format(x, x, _TOP - 6, bottom - _GAP, x, _TOP - 11, percent)
    return axis


def _draw_row(cell: PairCell, criterion: Criterion, y: float) -> Markup:
    share = cell.share(criterion)
    if share.value is None or share.low is None or share.high is None or share.n is None:
        raise ValueError("a row needs a measured share")
    x, low, high = (_x_at(value) for value in (share.value, share.low, share.high))
    tooltip = (
        f"{cell.first.name} + {cell.second.name}, {cell.background.value} background: "
        f"{round(share.value * share.n)} of {share.n}, {format_percent(share.low)} to "
        f"{format_percent(share.high)}"
    )
    mark = (
        Markup('<circle cx="{}" cy="{}" r="4.5"/>').format(format_coordinate(x), y)
        if cell.background is Style.CARTOON
        else Markup('<rect x="{}" y="{}" width="8" height="8"/>').format(
            format_coordinate(x - 4), y - 4
        )
    )
    return Markup(
        '<g class="mark-{}"><title>{}</title><path d="M{} {}H{}M{} {}v6M{} {}v6"/>{}</g>'
        '<text class="tick" x="{}" y="{}">{} of {}</text>'
    ).format(
        cell.background.value, tooltip,
        format_coordinate(low), y, format_coordinate(high),
        format_coordinate(low), y - 3, format_coordinate(high), y - 3,
        mark, _WIDTH - _RIGHT + 10, y + 4, round(share.value * share.n), share.n,
    )  # fmt: skip


def draw_meter(cell: TableCell) -> Markup:
    """Draw a share as a bar of 100 units with its interval as a line; empty without a value."""
    if cell.value is None or cell.low is None or cell.high is None:
        return Markup()
    return Markup(
        '<svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="8"/><rect class="fill" width="{}" height="8"/>'
        '<rect class="range" x="{}" y="3.2" width="{}" height="1.6"/></svg>'
    ).format(
        format_coordinate(100 * cell.value),
        format_coordinate(100 * cell.low),
        format_coordinate(100 * (cell.high - cell.low)),
    )


def format_percent(share: float) -> str:
    """Format a share in percent, without decimals."""
    return f"{round(100 * share)} %"


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1].rstrip()}…"
