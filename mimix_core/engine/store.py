"""The content-addressed store: a stage's result is whole and under its key, or not there.

Layout below the root::

    <stage>/<key>/table.parquet    the rows
    <stage>/<key>/...              files the rows name
    <stage>/<key>/stage.json       the record, written last: digests of all of the above
    .staging/<stage>-<key>-*/      work in progress, locked by the process that does it
    .digests/                      digests of source files, by path, size and mtime
    .claims/<stage>-<key>          locked by the process that computes it, so that no other does too
    .in-use                        locked by runs, so that nothing is taken from under them

A result gets to its place by one rename. What lies in ``.staging`` without a living owner is the
rest of a killed run and is swept away. All locks are ``flock``: they end with their process, and
hold between machines where the file system carries them (NFS 4, CephFS; not SMB or object stores).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from pydantic import Field, ValidationError

from mimix_core.engine.artifacts import (
    Counts,
    FileRef,
    FrozenModel,
    TableRef,
    digest_file,
    file_ref,
)
from mimix_core.engine.atomic_io import fsync_path
from mimix_core.errors import BadInput


class StoredFile(FrozenModel):
    """A file of a result as it was when committed."""

    path: str
    sha256: str
    size: int
    mtime_ns: int


class StageRecord(FrozenModel):
    """What ``stage.json`` says of a result."""

    stage: str
    version: int
    unit: str
    key: str
    counts: Counts
    reasons: dict[str, int]
    notes: dict[str, str | int | float]
    runtime_stats: dict[str, str | int | float] = Field(default_factory=dict)
    seconds: float
    peak_rss_mb: int
    files: tuple[StoredFile, ...] = ()


class _SourceDigest(FrozenModel):
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Store:
    """All results below one folder."""

    root: Path
    TABLE: ClassVar[str] = "table.parquet"
    RECORD: ClassVar[str] = "stage.json"
    LOCK: ClassVar[str] = ".lock"
    IN_USE: ClassVar[str] = ".in-use"
    CLAIMS: ClassVar[str] = ".claims"
    CLAIM_POLL_SECONDS: ClassVar[float] = 0.2
    """How often one that waits for a claim looks again."""

    def folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def record(self, ref: TableRef) -> StageRecord:
        """The record of a committed result."""
        return StageRecord.model_validate_json((ref.folder / self.RECORD).read_bytes())

    def records(self) -> Iterator[StageRecord]:
        """The records of all results, whole or not, in the order of their stage and key."""
        for path in sorted(self.root.glob(f"[!.]*/*/{self.RECORD}")):
            yield StageRecord.model_validate_json(path.read_bytes())

    def lookup(self, stage: str, key: str) -> TableRef | None:
        """The committed result, if it is there and all its files are as they were committed.

        The table is read and digested every time. Other files are taken as unchanged while size
        and mtime are, and digested otherwise.
        """
        folder = self.folder(stage, key)
        try:
            record = StageRecord.model_validate_json((folder / self.RECORD).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None
        table = None
        for stored in record.files:
            if not _is_unchanged(folder / stored.path, stored, read=stored.path == self.TABLE):
                return None
            if stored.path == self.TABLE:
                table = stored
        if table is None or record.key != key or record.stage != stage:
            return None
        return self._table_ref(record, folder, table)

    @contextmanager
    def claim(self, stage: str, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """The sole right to compute a result. Whoever else asks for it waits until it is given up.

        ``waits()`` is called once when another has it. To be followed by a ``lookup``: the other
        has mostly made the result meanwhile. Nothing breaks without it: of two that compute the
        same, the first commit stays; only the work of the second is lost.
        """
        path = self._claim_path(stage, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _taken(path)
        if lock is None:
            on_wait()
        while lock is None:
            time.sleep(self.CLAIM_POLL_SECONDS)
            lock = _taken(path)
        with lock:
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def is_claimed(self, stage: str, key: str) -> bool:
        """Whether anyone, in this process or another, computes that result now."""
        try:
            with self._claim_path(stage, key).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _claim_path(self, stage: str, key: str) -> Path:
        return self.root / self.CLAIMS / f"{stage}-{key}"

    @contextmanager
    def staging(self, stage: str, key: str) -> Iterator[Path]:
        """An empty folder to work in; gone afterwards unless ``commit`` moved it away."""
        staging = self.root / ".staging"
        staging.mkdir(parents=True, exist_ok=True)
        with _locked(staging / self.LOCK):
            self._remove_abandoned(staging)
            out = Path(tempfile.mkdtemp(prefix=f"{stage}-{key[:16]}-", dir=staging))
            lock = (out / self.LOCK).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
        with lock:
            try:
                yield out
            finally:
                shutil.rmtree(out, ignore_errors=True)

    def commit(self, record: StageRecord, out: Path) -> TableRef:
        """Move a finished staging folder to its key. The first of two equal commits stays."""
        paths = sorted(p for p in out.rglob("*") if p.is_file() and p.name != self.LOCK)
        record = record.model_copy(update={"files": tuple(_file_record(p, out) for p in paths)})
        (out / self.RECORD).write_text(record.model_dump_json(indent=1))
        _fsync_tree(out)
        folder = self.folder(record.stage, record.key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(out, folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            found = self.lookup(record.stage, record.key)
            if found is not None:
                return found
            with self.staging("broken", record.key) as broken:
                os.rename(folder, broken / "result")
                os.rename(out, folder)
        (folder / self.LOCK).unlink(missing_ok=True)
        fsync_path(folder.parent)
        ref = self.lookup(record.stage, record.key)
        if ref is None:
            raise OSError(f"{folder}: the result changed while it was being committed")
        return ref

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """A run works with the results that it found: meanwhile none is discarded."""
        with (self.root / self.IN_USE).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def discard(self, stage: str, key: str) -> bool:
        """Take a result away in one rename, so that the next run makes it anew. False: none there.

        Raises BadInput while a run works with the store: it may be about to read the result.
        """
        with (self.root / self.IN_USE).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BadInput(
                    "a run works with these results",
                    where=str(self.root),
                    fix="Try again when it has ended.",
                ) from error
            with self.staging("discarded", key) as out:
                try:
                    os.rename(self.folder(stage, key), out / "result")
                except FileNotFoundError:
                    return False
            fsync_path(self.root / stage)
        return True

    def source_ref(self, path: Path) -> FileRef:
        """Reference to a source file or folder; digests are remembered while files stay as is."""
        return file_ref(path, self._cached_digest)

    def _cached_digest(self, path: Path) -> str:
        before = path.stat()
        name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
        memo = self.root / ".digests" / f"{name}.json"
        try:
            known = _SourceDigest.model_validate_json(memo.read_bytes())
        except (FileNotFoundError, ValidationError):
            known = None
        if known and (known.size, known.mtime_ns) == (before.st_size, before.st_mtime_ns):
            return known.sha256
        fresh = _SourceDigest(
            size=before.st_size, mtime_ns=before.st_mtime_ns, sha256=digest_file(path)
        )
        memo.parent.mkdir(parents=True, exist_ok=True)
        part = memo.with_name(f"{memo.name}.{os.getpid()}")
        part.write_text(fresh.model_dump_json())
        part.replace(memo)
        return fresh.sha256

    def _table_ref(self, record: StageRecord, folder: Path, table: StoredFile) -> TableRef:
        return TableRef(
            stage=record.stage,
            unit=record.unit,
            key=record.key,
            sha256=table.sha256,
            path=folder / self.TABLE,
            counts=record.counts,
        )

    def _remove_abandoned(self, staging: Path) -> None:
        """Remove the work of processes that are gone (their lock is free)."""
        for left in [entry for entry in staging.iterdir() if entry.is_dir()]:
            try:
                with (left / self.LOCK).open("a") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
            except FileNotFoundError:
                continue  # renamed to its place a moment ago
            except BlockingIOError:
                continue  # its owner lives


def _taken(path: Path) -> BinaryIO | None:
    """The file, made and locked; None while another has it.

    Who had it before may have removed the file that was locked here: that lock is worth nothing.
    """
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        lock.close()
        return None
    lock.close()
    return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _file_record(path: Path, out: Path) -> StoredFile:
    stat = path.stat()
    return StoredFile(
        path=path.relative_to(out).as_posix(),
        sha256=digest_file(path),
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )


def _is_unchanged(path: Path, stored: StoredFile, *, read: bool) -> bool:
    try:
        stat = path.stat()
        if stat.st_size != stored.size:
            return False
        if stat.st_mtime_ns == stored.mtime_ns and not read:
            return True
        return digest_file(path) == stored.sha256
    except OSError:
        return False


def _fsync_tree(out: Path) -> None:
    """Put all files and folders of a result on disk before it is renamed into place."""
    for folder, _, names in os.walk(out):
        for name in names:
            fsync_path(Path(folder, name))
        fsync_path(Path(folder))
