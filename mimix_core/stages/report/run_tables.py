"""Load a run's tables for the report: rows together with the folders of their files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Generic, TypeVar

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef
from mimix_core.errors import BadInput
from mimix_core.tables import BaseRow, ClipRow, SceneRow, Status, Table

RowT = TypeVar("RowT", bound=BaseRow)


@dataclass(frozen=True)
class TableEntry(Generic[RowT]):
    """A row and the table that contains it."""

    row: RowT
    ref: TableRef

    @property
    def ok(self) -> bool:
        return bool(self.row["status"] == Status.OK)

    def path(self, file: str) -> Path:
        """Return the path of a file that the row names relative to its table."""
        return self.ref.folder / file


def load_entries(refs: Iterable[TableRef], table: Table[RowT]) -> tuple[TableEntry[RowT], ...]:
    """Load all rows of these tables, sorted by id. Raises BadInput for another kind of table."""
    entries = [TableEntry(row, ref) for ref in refs for row in tables.read(ref.path, table)]

    def row_id(entry: TableEntry[RowT]) -> str:
        values: Mapping[str, object] = entry.row
        return str(values[table.id])

    return tuple(sorted(entries, key=row_id))


def group_entries(
    entries: Iterable[TableEntry[RowT]], key: Callable[[RowT], str]
) -> dict[str, list[TableEntry[RowT]]]:
    """Group entries by a key of their rows, in their order."""
    groups: dict[str, list[TableEntry[RowT]]] = {}
    for entry in entries:
        groups.setdefault(key(entry.row), []).append(entry)
    return groups


def index_entries(
    entries: Iterable[TableEntry[RowT]], key: Callable[[RowT], str]
) -> dict[str, TableEntry[RowT]]:
    """Index entries by a unique key of their rows."""
    return {key(entry.row): entry for entry in entries}


def get_clip(
    clips: Mapping[str, TableEntry[ClipRow]], clip_id: str, referrer: str
) -> TableEntry[ClipRow]:
    """Return the clip with that id. Raises BadInput when the clips tables do not contain it."""
    try:
        return clips[clip_id]
    except KeyError as error:
        raise BadInput(
            f"{referrer} refers to clip {clip_id}, which is in none of the clips tables",
            where="report",
            fix="Pass the tables of the same run to the report.",
        ) from error


def select_evenly(
    entries: Sequence[TableEntry[RowT]], limit: int, *keys: Callable[[RowT], str]
) -> list[TableEntry[RowT]]:
    """Select at most ``limit`` entries, evenly over the values of the keys, in their order.

    Values of the first key get equal shares (round-robin), within them those of the next key, and
    so on: a long show does not displace the others, nor a long episode's first minute the rest.
    """
    if len(entries) <= limit:
        return list(entries)
    if not keys:
        return [entries[(2 * k + 1) * len(entries) // (2 * limit)] for k in range(limit)]
    groups = group_entries(entries, keys[0])
    shares = dict.fromkeys(groups, 0)
    left = limit
    while left:
        for name, members in groups.items():
            if left and shares[name] < len(members):
                shares[name] += 1
                left -= 1
    selected = {
        id(entry)
        for name, members in groups.items()
        for entry in select_evenly(members, shares[name], *keys[1:])
    }
    return [entry for entry in entries if id(entry) in selected]


def get_time_base(row: SceneRow | ClipRow) -> Fraction:
    """Return the seconds per PTS tick; 0 for a row without a time base."""
    denominator = row["time_base_den"]
    return Fraction(row["time_base_num"], denominator) if denominator else Fraction(0)


def scene_duration(row: SceneRow) -> Fraction:
    """Return the length of a scene in seconds."""
    return (row["end_pts"] - row["start_pts"]) * get_time_base(row)
