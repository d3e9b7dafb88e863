"""Append-only logs with one JSON object per line, which survive crashes and can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

from mimix_core.engine.atomic_io import atomic_write_bytes, fsync_path

Record = Mapping[str, Any]

_BLOCK = 65_536
"""Bytes read at a time to find the last line."""


class MalformedLog(ValueError):
    """A complete line of a log is not an expected record."""


class JsonlLog:
    """Append records to a log; they are on disk when ``append`` returns."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    def create(cls, path: Path, records: Iterable[Record] = ()) -> JsonlLog:
        """Start a log with these records; atomically replaces an existing file."""
        atomic_write_bytes(path, _to_lines(records).encode())
        return cls(path.open("a", encoding="utf-8"))

    @classmethod
    def resume(cls, path: Path) -> JsonlLog:
        """Open or create a log to append to; removes a last line that a crash left incomplete."""
        with path.open("ab+") as file:
            end = file.tell()
            complete = _end_of_last_line(file, end)
            if complete < end:
                file.truncate(complete)
        if complete == 0:
            fsync_path(path.parent)  # the file may be new
        return cls(path.open("a", encoding="utf-8"))

    def append(self, *records: Record) -> None:
        self._file.write(_to_lines(records))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_records(
    path: Path, select: Callable[[Record], bool] = lambda _: True
) -> list[dict[str, Any]]:
    """Read the selected records; none if the file does not exist.

    A last line that a crash left incomplete is ignored. Raises MalformedLog for any other line
    that is not JSON or that ``select`` cannot handle.
    """
    if not path.exists():
        return []
    # Split before it is decoded: a crash may have cut a character in two.
    *lines, _incomplete = path.read_bytes().split(b"\n")
    try:
        records = (json.loads(line.decode()) for line in lines)
        return [record for record in records if select(record)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedLog(f"{path} has a malformed line") from error


def _end_of_last_line(file: BinaryIO, end: int) -> int:
    """Return the offset after the last line break of a file, reading only its tail."""
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        position = file.read(end - start).rfind(b"\n")
        if position >= 0:
            return start + position + 1
        end = start
    return 0


def _to_lines(records: Iterable[Record]) -> str:
    return "".join(
        json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records
    )
