"""Refer to rows of clips and cutouts that are read from their tables when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef
from mimix_core.tables import ClipRow, CutoutRow, Table

Value = TypeVar("Value")

_TABLES_IN_MEMORY = 64
"""Tables of a kind in memory, about 0.5 MB each; those of other episodes are read again."""


class StoredRows:
    """Rows of some tables by number of the table and position in it, with some of the columns."""

    def __init__(self, refs: Sequence[TableRef], table: Table[Any], columns: Sequence[str]) -> None:
        self.refs = refs

        def load(number: int) -> pa.Table:
            groups = list(tables.read_groups(refs[number].path, table, columns))
            return pa.concat_tables(groups).combine_chunks()

        self._load = lru_cache(_TABLES_IN_MEMORY)(load)

    def row(self, number: int, position: int) -> Any:
        """Return a row with the columns."""
        return self._load(number).slice(position, 1).to_pylist()[0]

    def folder(self, number: int) -> Path:
        """Return the folder that the files of a table are relative to."""
        return self.refs[number].folder


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A clip by what it is selected by; its row and the path of its video are read when needed."""

    clip_id: str
    episode_id: str
    show: str
    style: str
    rows: StoredRows
    number: int
    position: int

    @property
    def row(self) -> ClipRow:
        row: ClipRow = self.rows.row(self.number, self.position)
        return row

    @property
    def path(self) -> Path:
        return self.rows.folder(self.number) / self.row["file"]


@dataclass(frozen=True, slots=True)
class StoredCutout:
    """A cutout by what it is selected by; its row and the path of its masks are read when needed.

    ``usable``: whether it passed the checks and has masks.
    """

    cutout_id: str
    clip_id: str
    character: str
    style: str
    usable: bool
    rows: StoredRows
    number: int
    position: int

    @property
    def row(self) -> CutoutRow:
        row: CutoutRow = self.rows.row(self.number, self.position)
        return row

    @property
    def path(self) -> Path:
        return self.rows.folder(self.number) / self.row["file"]


class LazyMapping(Mapping[str, Value], Generic[Value]):
    """A mapping of the keys of another one, whose values are built when looked up."""

    def __init__(self, keys: Mapping[str, Any], build: Callable[[str], Value]) -> None:
        self._keys, self._build = keys, build

    def __getitem__(self, key: str) -> Value:
        if key not in self._keys:
            raise KeyError(key)
        return self._build(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
