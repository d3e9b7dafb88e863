"""A table before it is written anywhere: columns, lines, cells with their intervals and counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mimix_core.benchmark.judge.statistics import interval
from mimix_core.benchmark.tables.metric_columns import Measure


@dataclass(frozen=True)
class Cell:
    """A mean over ``n`` values of the ``of`` that were asked for, and its interval.

    ``value`` is None where nothing was measured. A figure that is quoted has no interval and no
    count.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    of: int | None = None

    def text(self, decimals: int, *, signed: bool = False) -> str:
        """The value as it is shown, an en dash for none."""
        return "–" if self.value is None else _shown(self.value, decimals, signed)

    def range(self, decimals: int, *, signed: bool = False) -> str:
        """The interval as it is shown, nothing for none; a fourth decimal would say nothing."""
        if self.low is None or self.high is None:
            return ""
        places = min(decimals, 3)
        return f"{_shown(self.low, places, signed)} to {_shown(self.high, places, signed)}"

    def count(self) -> str:
        """``n of of`` where not all was measured, nothing where all was."""
        return "" if self.n is None or self.n == self.of else f"{self.n} of {self.of}"


def _shown(value: float, decimals: int, signed: bool) -> str:
    """A proper minus, and no sign before what rounds to zero."""
    rounded = round(value, decimals) or 0.0
    sign = "−" if rounded < 0 else "+" if signed and rounded > 0 else ""
    return f"{sign}{abs(rounded):.{decimals}f}"


@dataclass(frozen=True)
class Line:
    """One row: its labels, its cells, and whether it is quoted from the paper."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    quoted: bool = False


@dataclass(frozen=True)
class Sheet:
    """One table. ``heads``: titles of the labels; ``notes`` stand below it.

    ``marked``: the best of each column is told. ``signed``: values are shown with their sign.
    """

    key: str
    title: str
    lead: str
    heads: tuple[str, ...]
    columns: tuple[Measure, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    marked: bool = True
    signed: bool = False

    def best(self) -> frozenset[tuple[int, int]]:
        """(line, column) of the best shown value of each column among the lines of one group.

        Lines of a group share all labels but the first. What is quoted, and what has nothing of its
        group beside it, is never the best.
        """
        found: set[tuple[int, int]] = set()
        if not self.marked:
            return frozenset()
        for group in {line.labels[1:] for line in self.lines}:
            own = [
                (index, line)
                for index, line in enumerate(self.lines)
                if line.labels[1:] == group and not line.quoted
            ]
            for column, measure in enumerate(self.columns):
                # As shown: two that read alike are both the best.
                shown = {
                    index: round(value, measure.decimals)
                    for index, line in own
                    if (value := line.cells[column].value) is not None
                }
                if len(shown) > 1:
                    top = (max if measure.higher_is_better else min)(shown.values())
                    found |= {(index, column) for index in shown if shown[index] == top}
        return frozenset(found)


def cell(values: Mapping[str, float], asked: Collection[str]) -> Cell:
    """The mean over the asked prompts that have a value; the rest shows in the count.

    The interval is the bootstrap's over prompts: it says how the mean would move with other
    prompts, not with other seeds of the same. One prompt has none.
    """
    own = [values[prompt_id] for prompt_id in sorted(asked) if prompt_id in values]
    if not own:
        return Cell(None, n=0, of=len(asked))
    found = interval(own)
    if len(own) == 1:
        return Cell(found.mean, n=1, of=len(asked))
    return Cell(found.mean, found.low, found.high, n=len(own), of=len(asked))


def difference(
    values: Mapping[str, float], other: Mapping[str, float], asked: Collection[str]
) -> Cell:
    """``values - other``, prompt by prompt, over the prompts that both have a value of."""
    return cell({key: values[key] - other[key] for key in values if key in other}, asked)
