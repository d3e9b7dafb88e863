"""An append-only file of JSON lines that any number of processes read and write at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.jsonl_log import JsonlLog
from mimix_core.engine.locks import exclusive_lock

RecordT = TypeVar("RecordT", bound=FrozenModel)


class SharedLog(ABC, Generic[RecordT]):
    """A file of records, and what was read of it so far.

    Lines are only ever added, under a lock, and are on disk before the writer goes on: a process
    that is killed loses nothing that it has reported, and its half-written last line is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._offset = 0
        self._file_id: tuple[int, int] | None = None
        self._forget()

    def refresh(self) -> list[RecordT]:
        """Read what other processes have appended; return it. Raises BadInput for a bad line."""
        with self._lock:
            return self._read_new()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep all others from writing in this context, which starts with all lines read."""
        with self._lock, exclusive_lock(self.path.with_name(f".{self.path.name}.lock")):
            self._read_new()
            yield

    def _write(self, records: Sequence[RecordT]) -> None:
        """Append records and read them back; only within ``_exclusive``."""
        if records:
            log = JsonlLog.resume(self.path)
            try:
                log.append(*(one.model_dump(mode="json", exclude_defaults=True) for one in records))
            finally:
                log.close()
        self._read_new()

    def _read_new(self) -> list[RecordT]:
        """Read complete lines from where the last read ended; all of them from another file."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            self._start_over()
            return []
        with file:
            stats = self.path.stat()
            file_id = (stats.st_dev, stats.st_ino)
            if file_id != self._file_id or stats.st_size < self._offset:
                self._start_over()
                self._file_id = file_id
            file.seek(self._offset)
            complete, newline, _ = file.read().rpartition(b"\n")
        records = self._parse(complete.decode(errors="replace"))
        self._offset += len(complete) + len(newline)
        return [record for record in records if self._accept(record)]

    def _start_over(self) -> None:
        self._offset, self._file_id = 0, None
        self._forget()

    @abstractmethod
    def _forget(self) -> None:
        """Start without any record: the file is read from its beginning."""

    @abstractmethod
    def _parse(self, text: str) -> list[RecordT]:
        """Parse complete lines. Raises BadInput naming every bad line."""

    @abstractmethod
    def _accept(self, record: RecordT) -> bool:
        """Take a record over; return False if it is there already."""
