"""Sort the rows of a table by id in bounded memory: runs are spilled to disk and merged."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from mimix_core.tables.rows import Reason, Status, Table

GROUP_ROWS = 65_536
"""Rows in a row group of a table: as many are in memory when it is read or written."""

RUN_ROWS = 2 * GROUP_ROWS
"""Rows that are sorted in memory. A table with more is sorted on disk."""

_MERGE_ROWS = 8_192
"""Rows of each run in memory while runs are merged."""


class SortedRows:
    """Rows of a table, added in any order and returned sorted by id.

    At most ``RUN_ROWS`` rows are in memory: sorted runs of so many are in unnamed files in
    ``folder``, which vanish with this object or its process. ``statuses`` and ``reasons``: how many
    rows have them.
    """

    def __init__(self, table: Table[Any], folder: Path) -> None:
        self.table = table
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._folder = folder
        self._rows: list[Mapping[str, Any]] = []
        self._runs: list[BinaryIO] = []
        self._names = set(table.schema.names)

    def __len__(self) -> int:
        return self.statuses.total()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row. Raises ValueError if it violates the table's contract."""
        check_row(self.table, row, self._names)
        self.statuses[row["status"]] += 1
        if row["reason"] is not None:
            self.reasons[row["reason"]] += 1
        self._rows.append(row)
        if len(self._rows) == RUN_ROWS:
            self._spill()

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> SortedRows:
        """Add rows, and return this object."""
        for row in rows:
            self.add(row)
        return self

    def groups(self) -> Iterator[pa.Table]:
        """Yield all rows in order, in tables of ``GROUP_ROWS`` rows; the last may have fewer.

        Raises ValueError for a duplicate id.
        """
        if not self._runs:
            whole = self._sorted_run()
            yield from (
                whole.slice(start, GROUP_ROWS) for start in range(0, max(1, len(whole)), GROUP_ROWS)
            )
            return
        if self._rows:
            self._spill()
        yield from _regroup(self._merge())

    def _sorted_run(self) -> pa.Table:
        rows = sorted(self._rows, key=lambda row: str(row[self.table.id]))
        run = pa.Table.from_pylist(rows, schema=self.table.schema)
        _check_ids(self.table, run, None)
        return run

    def _spill(self) -> None:
        run = self._sorted_run()
        self._rows = []
        stream = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - lives as long as this
        with pa.ipc.new_file(pa.PythonFile(stream, mode="w"), run.schema) as writer:
            writer.write_table(run, max_chunksize=_MERGE_ROWS)
        self._runs.append(stream)

    def _merge(self) -> Iterator[pa.Table]:
        """Yield the rows of all runs in order, in tables of any size."""
        key = self.table.id
        waiting = [_run_batches(stream) for stream in self._runs]
        heads = [next(batches, None) for batches in waiting]
        last: str | None = None
        while any(head is not None for head in heads):
            # Up to the first end of a head, no run has rows that are not loaded.
            limit = min(head[key][-1].as_py() for head in heads if head is not None)
            ready = []
            for number, head in enumerate(heads):
                if head is None:
                    continue
                count = pc.sum(pc.less_equal(head[key], limit)).as_py()
                ready.append(head.slice(0, count))
                rest = head.slice(count)
                heads[number] = rest if len(rest) else next(waiting[number], None)
            merged = pa.concat_tables(ready)
            merged = merged.take(pc.sort_indices(merged[key]))
            _check_ids(self.table, merged, last)
            last = merged[key][-1].as_py()
            yield merged


def _run_batches(stream: BinaryIO) -> Iterator[pa.Table]:
    reader = pa.ipc.open_file(pa.PythonFile(stream, mode="r"))
    for number in range(reader.num_record_batches):
        yield pa.Table.from_batches([reader.get_batch(number)])


def _regroup(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows in tables of ``GROUP_ROWS`` rows, each in one chunk."""
    held: list[pa.Table] = []
    for part in parts:
        held.append(part)
        while sum(map(len, held)) >= GROUP_ROWS:
            joined = pa.concat_tables(held)
            yield joined.slice(0, GROUP_ROWS).combine_chunks()
            held = [joined.slice(GROUP_ROWS)]
    if sum(map(len, held)):
        yield pa.concat_tables(held).combine_chunks()


def check_row(table: Table[Any], row: Mapping[str, Any], names: set[str]) -> None:
    """Raise ValueError naming the row if it violates the contract. ``names``: the columns."""
    if row.keys() != names:
        missing, extra = sorted(names - set(row)), sorted(set(row) - names)
        raise ValueError(
            f"{_label(table, row.get(table.id))}: missing columns {missing}, "
            f"unknown columns {extra}"
        )
    reason = row["reason"]
    status = Status(row["status"])
    if (status is Status.OK) != (reason is None):
        raise ValueError(f"{_label(table, row[table.id])}: status {status} with reason {reason!r}")
    if reason is not None and reason not in _REASONS:
        raise ValueError(f"{_label(table, row[table.id])}: unknown reason {reason!r}")


_REASONS = frozenset(reason.value for reason in Reason)


def _check_ids(table: Table[Any], rows: pa.Table, last: str | None) -> None:
    """Raise ValueError if two neighbors, or ``last`` and the first row, have the same id."""
    ids = rows[table.id].combine_chunks()
    if last is not None and len(ids) and ids[0].as_py() == last:
        raise ValueError(f"{_label(table, last)}: duplicate id")
    equal = pc.index(pc.equal(ids[1:], ids[:-1]), True).as_py() if len(ids) > 1 else -1
    if equal >= 0:
        raise ValueError(f"{_label(table, ids[equal].as_py())}: duplicate id")


def _label(table: Table[Any], name: object) -> str:
    return f"{table.name} row {name!r}"
