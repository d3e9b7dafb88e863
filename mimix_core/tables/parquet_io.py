"""Read and write tables as Parquet: validated, sorted, and byte-identical for equal rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core.errors import BadInput
from mimix_core.tables.rows import R, Reason, Status, Table


def validate(table: Table[Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError naming the first row that violates the table's contract."""
    names = set(table.schema.names)
    reasons = {reason.value for reason in Reason}
    seen: set[str] = set()
    for row in rows:
        label = f"{table.name} row {row.get(table.id)!r}"
        if set(row) != names:
            missing, extra = sorted(names - set(row)), sorted(set(row) - names)
            raise ValueError(f"{label}: missing columns {missing}, unknown columns {extra}")
        if row[table.id] in seen:
            raise ValueError(f"{label}: duplicate id")
        seen.add(row[table.id])
        status = Status(row["status"])
        if (status is Status.OK) != (row["reason"] is None):
            raise ValueError(f"{label}: status {status} with reason {row['reason']!r}")
        if row["reason"] is not None and row["reason"] not in reasons:
            raise ValueError(f"{label}: unknown reason {row['reason']!r}")


def write(
    path: Path, table: Table[Any], rows: Iterable[Mapping[str, Any]], *, stage_key: str
) -> None:
    """Write rows, sorted by id, as one Parquet file: equal rows and key give equal bytes."""
    ordered = sorted(rows, key=lambda row: str(row[table.id]))
    validate(table, ordered)
    metadata = {
        "mimix.table": table.name,
        "mimix.schema_version": str(table.version),
        "mimix.stage_key": stage_key,
    }
    arrow = pa.Table.from_pylist(
        [dict(row) for row in ordered], schema=table.schema.with_metadata(metadata)
    )
    pq.write_table(arrow, path, compression="zstd", row_group_size=65536)


def digest_rows(path: Path, table: Table[Any]) -> str:
    """Compute the SHA-256 of a table's rows: without the stage key, and without ``locations``."""
    arrow = pq.read_table(path).drop_columns(list(table.locations))
    metadata = dict(arrow.schema.metadata or {})
    metadata.pop(b"mimix.stage_key", None)
    digest = hashlib.sha256()
    sink = pa.PythonFile(_DigestStream(digest), mode="w")
    arrow = arrow.replace_schema_metadata(metadata).combine_chunks()
    with pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow, max_chunksize=65536)
    return digest.hexdigest()


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
    try:
        arrow = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(
            f"not a readable {table.name} table ({error})",
            where=os.fspath(path),
            fix="Run the stage that writes it again.",
        ) from error
    metadata = arrow.schema.metadata or {}
    found = metadata.get(b"mimix.table", b"").decode()
    version = metadata.get(b"mimix.schema_version", b"").decode()
    if found != table.name or version != str(table.version):
        raise BadInput(
            f"contains table {found or 'unknown'} version {version or 'unknown'}, "
            f"expected {table.name} version {table.version}",
            where=os.fspath(path),
            fix="Run the stage that writes it again with this version of MiMix.",
        )
    rows: list[R] = arrow.to_pylist()
    return rows


def usable(rows: Iterable[R]) -> Iterator[R]:
    """Iterate over the rows with status ok."""
    return (row for row in rows if row["status"] == Status.OK)
