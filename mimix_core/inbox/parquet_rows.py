"""Read rows of Parquet files from strangers without the memory that a small file can ask for.

A dictionary of one long text, a list of equal elements or a page of zeros makes gigabytes of a
kilobyte. So only the columns that are needed are read, their sizes are checked in the file's
footer, and texts stay in the file's dictionary until their lengths are known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimix_core.errors import BadInput

MAX_ROWS = 1_000_000
MAX_VALUES = 10 * MAX_ROWS
"""Values of a column of lists, all rows together."""
MAX_COLUMN_BYTES = 1_000_000_000
MAX_TEXT_BYTES = 1_000_000
"""Length of one text."""
MAX_TOTAL_BYTES = 500_000_000
"""Length of the texts of all rows together, each counted as often as it occurs."""
_ROWS_AT_ONCE = 100
_UNREADABLE = (
    *(pa.ArrowException, OSError, ValueError, ArithmeticError, MemoryError),
    KeyError,  # a timestamp in a time zone that does not exist
)


def read_parquet_rows(path: Path, columns: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table with those of ``columns`` that it has.

    Raises BadInput for a file that is not a table, that cannot be read, or exceeds a limit.
    """
    try:
        with pq.ParquetFile(path) as file:
            leaves, texts = _select_leaves(path, file.metadata, columns)
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            total = 0
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=leaves):
                total += sum(_count_bytes(path, column) for column in batch.columns)
                if total > MAX_TOTAL_BYTES:
                    raise _too_much(path, f"texts of more than {MAX_TOTAL_BYTES:,} bytes")
                yield from batch.to_pylist()
    except BadInput:
        raise
    # KeyError: of a timestamp whose time zone does not exist.
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        KeyError,
        ArithmeticError,
        MemoryError,
    ) as error:
        raise BadInput(
            f"cannot be read as a Parquet file ({str(error)[:200]})", where=str(path)
        ) from error


def _select_leaves(
    path: Path, metadata: pq.FileMetaData, columns: Collection[str]
) -> tuple[list[str], list[str]]:
    """Return the paths of the columns to read, and which of them are texts. Raises BadInput."""
    if metadata.num_rows > MAX_ROWS:
        raise _too_much(path, f"more than {MAX_ROWS:,} rows")
    leaves, texts = [], []
    for number in range(metadata.num_columns):
        column = metadata.schema.column(number)
        # A video of ``datasets`` is a struct of its path and all its bytes.
        if column.path.partition(".")[0] not in columns or column.path.endswith(".bytes"):
            continue
        chunks = [
            metadata.row_group(group).column(number) for group in range(metadata.num_row_groups)
        ]
        if sum(chunk.num_values for chunk in chunks) > MAX_VALUES:
            raise _too_much(path, f"more than {MAX_VALUES:,} values in column {column.path[:80]}")
        if sum(chunk.total_uncompressed_size for chunk in chunks) > MAX_COLUMN_BYTES:
            raise _too_much(
                path, f"more than {MAX_COLUMN_BYTES:,} bytes in column {column.path[:80]}"
            )
        leaves.append(column.path)
        if column.physical_type == "BYTE_ARRAY":
            texts.append(column.path)
    return leaves, texts


def _count_bytes(path: Path, column: pa.Array) -> int:
    """Return the length of a column's texts. Raises BadInput if one of them is too long."""
    if pa.types.is_struct(column.type):
        return sum(_count_bytes(path, child) for child in column.flatten())
    if pa.types.is_nested(column.type):
        if not hasattr(column, "flatten"):
            raise BadInput(f"has a column of type {column.type}", where=str(path))
        return _count_bytes(path, column.flatten())
    if not pa.types.is_dictionary(column.type):
        return 0
    lengths = pc.binary_length(column.dictionary)
    if (pc.max(lengths).as_py() or 0) > MAX_TEXT_BYTES:
        raise _too_much(path, f"a text of more than {MAX_TEXT_BYTES:,} bytes")
    return int(pc.sum(pc.take(lengths, column.indices)).as_py() or 0)


def _too_much(path: Path, what: str) -> BadInput:
    return BadInput(
        f"has {what}", where=str(path), fix="Split it, and import the parts one by one."
    )
