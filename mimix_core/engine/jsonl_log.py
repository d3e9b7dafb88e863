"""Files of one JSON object a line that grow with the steps, and go on where a resumed run does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mimix_core.errors import StageFailed

Record = Mapping[str, Any]


class JsonlLog:
    """Appends records, each with its ``step``; what ``note`` returned from survives a crash."""

    def __init__(self, path: Path, kept: Iterable[Record] = ()) -> None:
        """Begin the file anew with the records ``kept``; the old one stays until that is done."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(_lines(kept), encoding="utf-8")
        fresh.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def append(self, *records: Record) -> None:
        self._file.write(_lines(records))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_records(path: Path, keep: Callable[[Record], bool]) -> list[dict[str, Any]]:
    """The records to ``keep``; none when there is no file.

    A last line that a crash cut off is none. Raises StageFailed for any other line that is none.
    """
    if not path.exists():
        return []
    *lines, _torn = path.read_text(encoding="utf-8").split("\n")
    try:
        return [record for record in map(json.loads, lines) if keep(record)]
    except (ValueError, KeyError, TypeError) as error:
        raise StageFailed(f"{path}: holds a line that is no record of a training") from error


def _lines(records: Iterable[Record]) -> str:
    return "".join(
        json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records
    )
