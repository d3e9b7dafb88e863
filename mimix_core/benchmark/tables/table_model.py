"""Model tables independently of their output format: columns, rows, cells with intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mimix_core.benchmark.judge.statistics import mean_interval
from mimix_core.benchmark.tables.metric_columns import MetricColumn


@dataclass(frozen=True)
class TableCell:
    """A mean over ``n`` of ``expected`` values and its confidence interval.

    ``value`` is None when nothing was measured. A quoted result has no interval and no count.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    expected: int | None = None

    def format_value(self, decimals: int, *, signed: bool = False) -> str:
        """Format the value, or an en dash if there is none."""
        return "–" if self.value is None else _format_number(self.value, decimals, signed)

    def format_interval(self, decimals: int, *, signed: bool = False) -> str:
        """Format the interval with at most three decimals; empty if there is none."""
        if self.low is None or self.high is None:
            return ""
        places = min(decimals, 3)
        low, high = (_format_number(x, places, signed) for x in (self.low, self.high))
        return f"{low} to {high}"

    def format_count(self) -> str:
        """Format ``n of expected`` when values are missing, else nothing."""
        return "" if self.n is None or self.n == self.expected else f"{self.n} of {self.expected}"


def _format_number(value: float, decimals: int, signed: bool) -> str:
    """Format with a typographic minus and without a sign for what rounds to zero."""
    rounded = round(value, decimals) or 0.0
    sign = "−" if rounded < 0 else "+" if signed and rounded > 0 else ""
    return f"{sign}{abs(rounded):.{decimals}f}"


@dataclass(frozen=True)
class TableRow:
    """One row. ``quoted``: it is quoted from the paper."""

    labels: tuple[str, ...]
    cells: tuple[TableCell, ...]
    quoted: bool = False


@dataclass(frozen=True)
class ResultTable:
    """One table. ``label_headers``: titles of the label columns; ``notes`` follow the table.

    ``highlight_best``: the best value of each column is bold. ``signed``: values have a sign.
    """

    key: str
    title: str
    description: str
    label_headers: tuple[str, ...]
    columns: tuple[MetricColumn, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
    highlight_best: bool = True
    signed: bool = False

    def best_cells(self) -> frozenset[tuple[int, int]]:
        """Find (row, column) of the best formatted value of each column within each group of rows.

        Rows of a group share all labels but the first. Quoted values and the only value of a group
        are never the best.
        """
        cells: set[tuple[int, int]] = set()
        if not self.highlight_best:
            return frozenset()
        for group in {row.labels[1:] for row in self.rows}:
            selected = [
                (index, row)
                for index, row in enumerate(self.rows)
                if row.labels[1:] == group and not row.quoted
            ]
            for column, metric_column in enumerate(self.columns):
                # Compare rounded values: two that look equal are both the best.
                rounded = {
                    index: round(value, metric_column.decimals)
                    for index, row in selected
                    if (value := row.cells[column].value) is not None
                }
                if len(rounded) > 1:
                    best = (max if metric_column.higher_is_better else min)(rounded.values())
                    cells |= {(index, column) for index in rounded if rounded[index] == best}
        return frozenset(cells)


def mean_cell(values: Mapping[str, float], prompt_ids: Collection[str]) -> TableCell:
    """Average the values of the requested prompts; missing ones appear in the count.

    The interval is over prompts (Student's t below 20, else a BCa bootstrap): it covers other
    prompts, not other seeds of the same prompts. A single prompt has no interval.
    """
    selected = [values[prompt_id] for prompt_id in sorted(prompt_ids) if prompt_id in values]
    if not selected:
        return TableCell(None, n=0, expected=len(prompt_ids))
    interval = mean_interval(selected)
    if len(selected) == 1:
        return TableCell(interval.mean, n=1, expected=len(prompt_ids))
    return TableCell(
        interval.mean, interval.low, interval.high, n=len(selected), expected=len(prompt_ids)
    )


def paired_difference_cell(
    values: Mapping[str, float], other: Mapping[str, float], prompt_ids: Collection[str]
) -> TableCell:
    """Average ``values - other`` over the requested prompts that have both values."""
    return mean_cell({key: values[key] - other[key] for key in values if key in other}, prompt_ids)
