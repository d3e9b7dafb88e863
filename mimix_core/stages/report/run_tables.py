"""A run's tables for the report: rows together with the folders of their files.

Tables of clips have millions of rows: ``RunTable`` reads the columns that a summary needs, and
complete rows of the few that are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

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


@dataclass(frozen=True)
class RunTable(Generic[RowT]):
    """The rows of all tables of one kind, read from disk when they are needed.

    ``refs``: by the first id in each. Rows are in the order of their ids, as no table has ids
    between those of another.
    """

    refs: tuple[TableRef, ...]
    table: Table[RowT]

    @property
    def ok(self) -> int:
        """The number of usable rows."""
        return sum(ref.counts.ok for ref in self.refs)

    @property
    def not_ok(self) -> int:
        """The number of rejected and failed rows."""
        return sum(ref.counts.rejected + ref.counts.failed for ref in self.refs)

    def read(self, *columns: str) -> Iterator[TableEntry[RowT]]:
        """Read all rows, with the status and these columns only; without any, complete rows."""
        names = ("status", *columns) if columns else None
        for ref in self.refs:
            for row in tables.iterate(ref.path, self.table, names):
                yield TableEntry(row, ref)

    def distinct(self, column: str) -> set[Any]:
        """Return all values of a column."""
        return {
            value
            for ref in self.refs
            for group in tables.read_groups(ref.path, self.table, [column])
            for value in pc.unique(group[column]).to_pylist()
        }

    def find(self, column: str, values: Collection[str]) -> list[TableEntry[RowT]]:
        """Return the complete rows that have one of these values in a column of text."""
        wanted = pa.array(sorted(values), pa.string())
        found: list[TableEntry[RowT]] = []
        for ref in self.refs if values else ():
            groups = tables.read_groups(ref.path, self.table, [column])
            if any(pc.any(pc.is_in(group[column], wanted)).as_py() for group in groups):
                for group in tables.read_groups(ref.path, self.table):
                    some = group.filter(pc.is_in(group[column], wanted))
                    found += [TableEntry(row, ref) for row in some.to_pylist()]
        return found

    def select(self, limit: int, *keys: str, ok: bool = True) -> list[TableEntry[RowT]]:
        """Select at most ``limit`` usable or other rows; see ``select_evenly``."""
        rows = self.refs if limit else ()
        counts: Counter[tuple[str, ...]] = Counter()
        for row in self._read_keys(rows, keys, ok):
            counts[row[1:]] += 1
        shares = _divide(counts, limit)
        seen: Counter[tuple[str, ...]] = Counter()
        selected = []
        for row in self._read_keys(rows, keys, ok):
            name, key = row[0], row[1:]
            if _is_selected(seen[key], counts[key], shares[key]):
                selected.append(name)
            seen[key] += 1
        return self.find(self.table.id, selected)

    def _read_keys(
        self, refs: Iterable[TableRef], keys: Sequence[str], ok: bool
    ) -> Iterator[tuple[str, ...]]:
        """Read the ids and keys of all rows that are usable, or not."""
        names = (self.table.id, *keys)
        for ref in refs:
            for group in tables.read_groups(ref.path, self.table, (*names, "status")):
                usable = pc.equal(group["status"], Status.OK.value)
                some = group.filter(usable if ok else pc.invert(usable))
                yield from zip(*(some[name].to_pylist() for name in names), strict=True)


def open_tables(refs: Iterable[TableRef], table: Table[RowT]) -> RunTable[RowT]:
    """Open these tables. Raises BadInput for another kind of table."""

    def first_id(ref: TableRef) -> str:
        for group in tables.read_groups(ref.path, table, [table.id]):
            if len(group):
                return str(group[table.id][0].as_py())
        return ""

    return RunTable(tuple(sorted(refs, key=first_id)), table)


def load_entries(refs: Iterable[TableRef], table: Table[RowT]) -> tuple[TableEntry[RowT], ...]:
    """Load all rows of tables that are small, sorted by id. Raises BadInput for another kind."""
    return tuple(open_tables(refs, table).read())


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
    names = [tuple(key(entry.row) for key in keys) for entry in entries]
    counts = Counter(names)
    shares = _divide(counts, limit)
    seen: Counter[tuple[str, ...]] = Counter()
    selected = []
    for entry, name in zip(entries, names, strict=True):
        if _is_selected(seen[name], counts[name], shares[name]):
            selected.append(entry)
        seen[name] += 1
    return selected


def _divide(counts: Mapping[tuple[str, ...], int], limit: int) -> dict[tuple[str, ...], int]:
    """Divide ``limit`` over groups of so many rows, which are named by all keys."""
    if sum(counts.values()) <= limit:
        return dict(counts)
    if all(not name for name in counts):
        return dict.fromkeys(counts, limit)
    groups: dict[str, dict[tuple[str, ...], int]] = {}
    for (first, *rest), count in counts.items():
        groups.setdefault(first, {})[tuple(rest)] = count
    sizes = {first: sum(group.values()) for first, group in groups.items()}
    shares = dict.fromkeys(groups, 0)
    left = limit
    while left:
        for first in groups:
            if left and shares[first] < sizes[first]:
                shares[first] += 1
                left -= 1
    return {
        (first, *rest): share
        for first, group in groups.items()
        for rest, share in _divide(group, shares[first]).items()
    }


def _is_selected(index: int, count: int, share: int) -> bool:
    """Return whether the row at ``index`` is one of ``share`` of ``count``, evenly spaced."""
    # Row (2 k + 1) * count // (2 * share) is the k-th: at most one k has this index.
    k = (2 * share * (index + 1) - 1 - count) // (2 * count)
    return 0 <= k < share and (2 * k + 1) * count // (2 * share) == index


def get_time_base(row: SceneRow | ClipRow) -> Fraction:
    """Return the seconds per PTS tick; 0 for a row without a time base."""
    denominator = row["time_base_den"]
    return Fraction(row["time_base_num"], denominator) if denominator else Fraction(0)


def scene_duration(row: SceneRow) -> Fraction:
    """Return the length of a scene in seconds."""
    return (row["end_pts"] - row["start_pts"]) * get_time_base(row)
