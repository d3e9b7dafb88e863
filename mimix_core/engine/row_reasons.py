"""Summarize why rows of stages were rejected or failed, with the figures in their details."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.tables import Status

_NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?![\w-])")
"""A figure, but not digits within an id such as ``show-3f2a-0004`` or a name such as ``P2``."""

_SLOT = "\0"
_COLUMNS = ["status", "reason", "detail"]


class ReasonSummary(FrozenModel):
    """How many rows have a reason, and the range of the figures in their details.

    ``figures``: the most common wording of the details; a figure that differs between rows is
    written as ``lowest to highest``. ``rows_of_wording``: how many rows have that wording.
    """

    status: str
    reason: str
    rows: int
    figures: str
    rows_of_wording: int

    def describe(self) -> str:
        """Format the summary as one line without its count."""
        text = self.reason if not self.figures else f"{self.reason}: {self.figures}"
        others = self.rows - self.rows_of_wording
        return f"{text} (and {others} with other details)" if others else text


@dataclass
class _Wording:
    """Details with the same words. ``ranges``: lowest and highest of each figure, as written."""

    rows: int = 0
    ranges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, numbers: Sequence[str]) -> None:
        if self.rows == 0:
            self.ranges = [(number, number) for number in numbers]
        else:
            self.ranges = [
                (min(low, number, key=float), max(high, number, key=float))
                for (low, high), number in zip(self.ranges, numbers, strict=True)
            ]
        self.rows += 1


class ReasonTally:
    """Count reasons over any number of rows; memory grows with the number of wordings only."""

    MAX_WORDINGS = 200
    """Wordings counted per reason; rows with further ones count as rows of another wording."""

    def __init__(self) -> None:
        self._rows: Counter[tuple[str, str]] = Counter()
        self._wordings: dict[tuple[str, str], dict[str, _Wording]] = {}

    def add(self, status: str, reason: str, detail: str) -> None:
        """Count one row that is not ok."""
        name = (status, reason)
        self._rows[name] += 1
        wordings = self._wordings.setdefault(name, {})
        template = _NUMBER.sub(_SLOT, detail)
        if template in wordings or len(wordings) < self.MAX_WORDINGS:
            wordings.setdefault(template, _Wording()).add(_NUMBER.findall(detail))

    def add_table(self, path: Path) -> None:
        """Count the rows of a table that are not ok; reads only the columns needed for that."""
        table = pq.read_table(path, columns=_COLUMNS)
        for row in table.filter(pc.field("status") != Status.OK.value).to_pylist():
            self.add(row["status"], row["reason"], row["detail"] or "")

    def summaries(self) -> list[ReasonSummary]:
        """Return one summary per reason, the most common first."""
        found = []
        for (status, reason), rows in self._rows.items():
            template, wording = max(
                self._wordings[(status, reason)].items(), key=lambda item: item[1].rows
            )
            found.append(
                ReasonSummary(
                    status=status,
                    reason=reason,
                    rows=rows,
                    figures=_fill(template, wording.ranges),
                    rows_of_wording=wording.rows,
                )
            )
        return sorted(found, key=lambda one: (-one.rows, one.reason, one.status))


def summarize_reasons(refs: Iterable[TableRef]) -> list[ReasonSummary]:
    """Summarize the reasons of all rows of these tables that are not ok."""
    tally = ReasonTally()
    for ref in refs:
        if ref.counts.rejected or ref.counts.failed:
            tally.add_table(ref.path)
    return tally.summaries()


def _fill(template: str, ranges: Sequence[tuple[str, str]]) -> str:
    parts = template.split(_SLOT)
    text = parts[0]
    for (low, high), part in zip(ranges, parts[1:], strict=True):
        text += (low if low == high else f"{low} to {high}") + part
    return text
