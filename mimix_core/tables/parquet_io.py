"""Read and write tables as Parquet: validated, sorted, and byte-identical for equal rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimix_core.errors import BadInput
from mimix_core.tables.rows import R, Status, Table
from mimix_core.tables.sorted_rows import GROUP_ROWS, SortedRows, check_row


def validate(table: Table[Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError naming the first row that violates the table's contract."""
    names = set(table.schema.names)
    seen: set[str] = set()
    for row in rows:
        check_row(table, row, names)
        if row[table.id] in seen:
            raise ValueError(f"{table.name} row {row[table.id]!r}: duplicate id")
        seen.add(row[table.id])


def write(
    path: Path,
    table: Table[Any],
    rows: Iterable[Mapping[str, Any]] | SortedRows,
    *,
    stage_key: str,
) -> None:
    """Write rows, sorted by id, as one Parquet file: equal rows and key give equal bytes."""
    if not isinstance(rows, SortedRows):
        rows = SortedRows(table, path.parent).extend(rows)
    metadata = {
        "mimix.table": table.name,
        "mimix.schema_version": str(table.version),
        "mimix.stage_key": stage_key,
    }
    schema = table.schema.with_metadata(metadata)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in rows.groups():
            writer.write_table(group.replace_schema_metadata(metadata), row_group_size=GROUP_ROWS)


def digest_rows(path: Path, table: Table[Any]) -> str:
    """Compute the SHA-256 of a table's rows: without the stage key, and without ``locations``."""
    digest = hashlib.sha256()
    sink = pa.PythonFile(_DigestStream(digest), mode="w")
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        metadata = dict(schema.metadata or {})
        metadata.pop(b"mimix.stage_key", None)
        fields = [field for field in schema if field.name not in table.locations]
        schema = pa.schema(fields, metadata)
        with pa.ipc.new_stream(sink, schema) as writer:
            for number in range(file.num_row_groups):
                group = file.read_row_group(number, columns=schema.names)
                group = group.replace_schema_metadata(metadata).combine_chunks()
                writer.write_table(group, max_chunksize=GROUP_ROWS)
    return digest.hexdigest()


def find_texts(path: Path, wanted: Collection[str]) -> set[str]:
    """Return those of ``wanted`` that are a value of a text column of the table at ``path``."""
    found: set[str] = set()
    texts = pa.array(sorted(wanted), pa.string())
    with pq.ParquetFile(path) as file:
        columns = [field.name for field in file.schema_arrow if field.type == pa.string()]
        for number in range(file.num_row_groups if wanted else 0):
            for column in file.read_row_group(number, columns=columns).columns:
                found.update(column.filter(pc.is_in(column, value_set=texts)).to_pylist())
    return found


class _DigestStream:
    """A file that only computes a digest of what is written to it."""

    closed = False

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def read(path: Path, table: Table[R]) -> list[R]:
    """Read all rows of a table. Raises BadInput if the file is another table or version."""
    return list(iterate(path, table))


def iterate(path: Path, table: Table[R], columns: Sequence[str] | None = None) -> Iterator[R]:
    """Read the rows of a table in order, a row group at a time; see ``read``.

    ``columns``: those that the rows have; None: all.
    """
    for group in read_groups(path, table, columns):
        rows: list[R] = group.to_pylist()
        yield from rows


def read_groups(
    path: Path, table: Table[Any], columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Read the row groups of a table as Arrow tables, one at a time; see ``iterate``."""
    try:
        with pq.ParquetFile(path) as file:
            _check_table(path, table, file.schema_arrow.metadata or {})
            names = None if columns is None else list(columns)
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, columns=names)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(
            f"not a readable {table.name} table ({error})",
            where=os.fspath(path),
            fix="Run the stage that writes it again.",
        ) from error


def _check_table(path: Path, table: Table[Any], metadata: Mapping[bytes, bytes]) -> None:
    found = metadata.get(b"mimix.table", b"").decode()
    version = metadata.get(b"mimix.schema_version", b"").decode()
    if found != table.name or version != str(table.version):
        raise BadInput(
            f"contains table {found or 'unknown'} version {version or 'unknown'}, "
            f"expected {table.name} version {table.version}",
            where=os.fspath(path),
            fix="Run the stage that writes it again with this version of MiMix.",
        )


def usable(rows: Iterable[R]) -> Iterator[R]:
    """Iterate over the rows with status ok."""
    return (row for row in rows if row["status"] == Status.OK)
