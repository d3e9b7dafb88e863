"""Rows by id in a temporary database on disk, for tables larger than memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from mimix_core.tables import Row

_CACHE_KIB = 65_536


class RowsOnDisk:
    """Rows of JSON values by id; the file has no name, and vanishes with this object."""

    def __init__(self) -> None:
        # SQLite's own temporary file: in memory up to the size of the cache.
        self._connection = sqlite3.connect("")
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._connection.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, row TEXT) WITHOUT ROWID")

    def put(self, name: str, row: Row) -> None:
        """Add a row, in place of one with the same id."""
        self._connection.execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", _encode(name, row))

    def put_all(self, rows: Iterable[tuple[str, Row]]) -> None:
        """Add rows, each in place of one with the same id."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO rows VALUES (?, ?)", (_encode(*row) for row in rows)
        )

    def put_new(self, name: str, row: Row) -> None:
        """Add a row unless there is one with this id."""
        self._connection.execute("INSERT OR IGNORE INTO rows VALUES (?, ?)", _encode(name, row))

    def get(self, name: str) -> Row | None:
        """Return the row with this id; None if there is none."""
        found = self._connection.execute("SELECT row FROM rows WHERE id = ?", (name,)).fetchone()
        return None if found is None else _decode(found[0])

    def items(self) -> Iterator[tuple[str, Row]]:
        """Yield all ids and rows, by id."""
        for name, row in self._connection.execute("SELECT id, row FROM rows ORDER BY id"):
            yield name, _decode(row)


def _encode(name: str, row: Row) -> tuple[str, str]:
    return name, json.dumps(row)


def _decode(text: str) -> Row:
    row: dict[str, Any] = json.loads(text)
    return row
