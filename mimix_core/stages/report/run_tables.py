"""What a run left behind: the rows of all its tables, each with the folder of its files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef
from mimix_core.errors import BadInput
from mimix_core.tables import Row, Status, Table


@dataclass(frozen=True)
class Entry:
    """A row and the table it stands in."""

    row: Row
    ref: TableRef

    def __getitem__(self, column: str) -> Any:
        return self.row[column]

    @property
    def ok(self) -> bool:
        return bool(self.row["status"] == Status.OK)

    def path(self, column: str = "file") -> Path:
        """The file that the column names."""
        return self.ref.folder / str(self.row[column])


def entries(refs: Iterable[TableRef], table: Table) -> tuple[Entry, ...]:
    """All rows of these tables, sorted by id. Raises BadInput for a table that is not ``table``."""
    found = [Entry(row, ref) for ref in refs for row in tables.read(ref.path, table)]
    return tuple(sorted(found, key=lambda entry: str(entry[table.id])))


def by(items: Iterable[Entry], column: str) -> dict[str, list[Entry]]:
    """The entries grouped by a column, in their order."""
    groups: dict[str, list[Entry]] = {}
    for item in items:
        groups.setdefault(str(item[column]), []).append(item)
    return groups


def one_by(items: Iterable[Entry], column: str) -> dict[str, Entry]:
    """The entries by a column that is unique."""
    return {str(item[column]): item for item in items}


def clip_of(clips: dict[str, Entry], clip_id: str, user: str) -> Entry:
    """The clip of that id. Raises BadInput when the given tables do not have it."""
    try:
        return clips[clip_id]
    except KeyError as error:
        raise BadInput(
            f"{user} names clip {clip_id}, which is in none of the clips tables",
            where="report",
            fix="Give the report the tables of one and the same run.",
        ) from error


def take(items: Sequence[Entry], limit: int, *columns: str) -> list[Entry]:
    """At most ``limit`` entries in their order, from all over them.

    The values of the first column are served in turn, within each of them those of the next, so
    that one long show does not hide the others, nor a long episode's first minute the rest.
    """
    if len(items) <= limit:
        return list(items)
    if not columns:
        return [items[(2 * k + 1) * len(items) // (2 * limit)] for k in range(limit)]
    groups = by(items, columns[0])
    shares = dict.fromkeys(groups, 0)
    left = limit
    while left:
        for name, members in groups.items():
            if left and shares[name] < len(members):
                shares[name] += 1
                left -= 1
    chosen = {
        id(item)
        for name, members in groups.items()
        for item in take(members, shares[name], *columns[1:])
    }
    return [item for item in items if id(item) in chosen]


def time_base(row: Row | Entry) -> Fraction:
    """Seconds of one PTS tick; 0 for a row that never got one."""
    denominator = row["time_base_den"]
    return Fraction(row["time_base_num"], denominator) if denominator else Fraction(0)


def seconds(row: Row | Entry, start: str, end: str) -> Fraction:
    """Length of a row between two of its PTS columns."""
    ticks: int = row[end] - row[start]
    return ticks * time_base(row)
