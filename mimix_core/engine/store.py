"""Store results by content: a complete result is under its stage key, or nothing is.

Layout below the root::

    <stage>/<key>/table.parquet    the rows
    <stage>/<key>/...              files that the rows name
    <stage>/<key>/stage.json       the record, written last: digests of all of the above
    .staging/<stage>-<key>-*/      work in progress, locked by the process that does it
    .digests/                      digests of source files, by path, size and mtime
    .claims/<stage>-<key>          locked by the process that computes it, so that no other does
    .in-use                        locked by runs, so that no result they use is discarded

One rename moves a result to its place. A folder in ``.staging`` without a live owner was left by a
killed run and is removed. All locks are ``flock`` (mimix_core/engine/locks.py): they end with their
process, and hold between machines if the file system supports that.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import ClassVar

from pydantic import Field, ValidationError

from mimix_core.engine.artifacts import (
    Counts,
    FileRef,
    FrozenModel,
    TableRef,
    digest_file,
    file_ref,
)
from mimix_core.engine.atomic_io import (
    atomic_write_bytes,
    current_umask,
    fsync_path,
    make_folder,
)
from mimix_core.engine.locks import (
    exclusive_lock,
    is_locked,
    shared_lock,
    sole_holder,
    try_exclusive_lock,
)
from mimix_core.errors import BadInput


class StoredFile(FrozenModel):
    """Record a file of a result as it was committed."""

    path: str
    sha256: str
    size: int
    mtime_ns: int


class StageRecord(FrozenModel):
    """Record of a committed result, written as ``stage.json``.

    ``content``: see ``TableRef``. ``key_parts``: what the key covers, see ``cache_key.key_parts``.
    """

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
    content: str = ""
    key_parts: dict[str, str] = Field(default_factory=dict)


class _SourceDigest(FrozenModel):
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Store:
    """Content-addressed store of all results below one folder."""

    root: Path
    TABLE: ClassVar[str] = "table.parquet"
    RECORD: ClassVar[str] = "stage.json"
    LOCK: ClassVar[str] = ".lock"
    IN_USE: ClassVar[str] = ".in-use"
    CLAIMS: ClassVar[str] = ".claims"
    CLAIM_POLL_SECONDS: ClassVar[float] = 0.2
    """Seconds between two attempts to get a claim."""

    def folder(self, stage: str, key: str) -> Path:
        """Return the folder of a result, whether or not it exists."""
        return self.root / stage / key

    def record(self, ref: TableRef) -> StageRecord:
        """Read the record of a committed result."""
        return StageRecord.model_validate_json((ref.folder / self.RECORD).read_bytes())

    def result_folders(self) -> list[Path]:
        """Return the folders of all results, intact or not, ordered by stage and key."""
        return sorted(path for path in self.root.glob("[!.]*/*") if path.is_dir())

    def records(self) -> Iterator[StageRecord]:
        """Read the records of all results, ordered by stage and key.

        Results without a readable record do not count, as for ``lookup``; ``mimix store verify``
        lists them.
        """
        for folder in self.result_folders():
            try:
                yield StageRecord.model_validate_json((folder / self.RECORD).read_bytes())
            except (FileNotFoundError, ValidationError):
                continue

    def lookup(self, stage: str, key: str) -> TableRef | None:
        """Return the committed result if it exists and all its files are unchanged, else None.

        The table is read and digested every time. Other files count as unchanged while size and
        mtime are unchanged, and are digested otherwise.
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
        """Hold the exclusive claim to compute a result; others wait until it is released.

        ``on_wait()`` is called once if another process holds the claim. Call ``lookup`` afterwards:
        usually the other process has committed the result meanwhile. Correctness does not depend on
        claims: of two equal commits the first is final, and only the second one's work is lost.
        """
        path = self._claim_path(stage, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = try_exclusive_lock(path)
        if lock is None:
            on_wait()
        while lock is None:
            time.sleep(self.CLAIM_POLL_SECONDS)
            lock = try_exclusive_lock(path)
        with lock:
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def is_claimed(self, stage: str, key: str) -> bool:
        """Return whether any process, this one included, is computing that result."""
        return is_locked(self._claim_path(stage, key))

    def _claim_path(self, stage: str, key: str) -> Path:
        return self.root / self.CLAIMS / f"{stage}-{key}"

    @contextmanager
    def staging(self, stage: str, key: str) -> Iterator[Path]:
        """Create an empty folder to work in; it is removed unless ``commit`` moved it."""
        staging = self.root / ".staging"
        make_folder(staging)
        with exclusive_lock(staging / self.LOCK):
            self._remove_abandoned(staging)
            out = Path(tempfile.mkdtemp(prefix=f"{stage}-{key[:16]}-", dir=staging))
            # mkdtemp makes it private; a result may be read by whom the umask allows.
            out.chmod(0o777 & ~current_umask())
            lock = try_exclusive_lock(out / self.LOCK)
            assert lock is not None, "a new folder cannot be locked by another process"
        with lock:
            try:
                yield out
            finally:
                shutil.rmtree(out, ignore_errors=True)

    def commit(self, record: StageRecord, out: Path, named_files: Collection[str] = ()) -> TableRef:
        """Move a finished staging folder to its key; of two equal commits the first is final.

        ``named_files``: the files that the rows name, relative to ``out``; they are part of the
        record's content.
        """
        paths = sorted(p for p in out.rglob("*") if p.is_file() and p.name != self.LOCK)
        files = tuple(_file_record(p, out) for p in paths)
        named = [file for file in files if file.path in named_files]
        record = record.model_copy(
            update={"files": files, "content": _add_files(record.content, named)}
        )
        (out / self.RECORD).write_text(record.model_dump_json(indent=1))
        _fsync_tree(out)
        folder = self.folder(record.stage, record.key)
        make_folder(folder.parent)
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
    def in_use(self) -> Iterator[FileIO]:
        """Prevent ``discard`` by others while a run uses the results that it looked up.

        Raises BadInput if the store cannot be written.
        """
        with ExitStack() as stack:
            try:
                make_folder(self.root)
                use = stack.enter_context(shared_lock(self.root / self.IN_USE))
            except OSError as error:
                raise BadInput(
                    f"the workspace cannot be written ({error.strerror})",
                    where=str(self.root.parent),
                    fix="Choose another --workspace, or make it writable for this user.",
                ) from error
            yield use

    def discard(self, stage: str, key: str, *, use: FileIO | None = None) -> bool:
        """Remove a result in one rename, so that the next run computes it again.

        ``use``: the caller's own ``in_use``, which does not count. Returns False if there is no
        such result. Raises BadInput while a run uses the store: it may be about to read the result.
        """
        with self._exclusive_use(use) as is_sole:
            if not is_sole:
                raise BadInput(
                    "a run is using these results",
                    where=str(self.root),
                    fix="Try again when it has ended.",
                )
            with self.staging("discarded", key) as out:
                try:
                    os.rename(self.folder(stage, key), out / "result")
                except FileNotFoundError:
                    return False
            fsync_path(self.root / stage)
        return True

    @contextmanager
    def _exclusive_use(self, use: FileIO | None) -> Iterator[bool]:
        """Keep runs out of the store in this context; yield False if one uses it already."""
        if use is not None:
            with sole_holder(use) as is_sole:
                yield is_sole
            return
        lock = try_exclusive_lock(self.root / self.IN_USE)
        if lock is None:
            yield False
            return
        with lock:
            yield True

    def source_ref(self, path: Path) -> FileRef:
        """Reference a source file or folder; digests are cached while size and mtime match."""
        return file_ref(path, self._cached_digest)

    def recorded_digest(self, path: Path) -> str | None:
        """Return the digest recorded for a source file of this size and mtime, without reading it.

        None if there is none.
        """
        stats = path.stat()
        try:
            cached = _SourceDigest.model_validate_json(self._digest_file(path).read_bytes())
        except (FileNotFoundError, PermissionError, ValidationError):
            return None
        same = (cached.size, cached.mtime_ns) == (stats.st_size, stats.st_mtime_ns)
        return cached.sha256 if same else None

    def _digest_file(self, path: Path) -> Path:
        name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
        return self.root / ".digests" / f"{name}.json"

    def _cached_digest(self, path: Path) -> str:
        before = path.stat()
        recorded = self.recorded_digest(path)
        if recorded is not None:
            return recorded
        digest = _SourceDigest(
            size=before.st_size, mtime_ns=before.st_mtime_ns, sha256=digest_file(path)
        )
        try:
            content = digest.model_dump_json().encode()
            atomic_write_bytes(self._digest_file(path), content, durable=False)
        except OSError as error:
            # Who may only read the workspace can look at results all the same.
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
        return digest.sha256

    def _table_ref(self, record: StageRecord, folder: Path, table: StoredFile) -> TableRef:
        return TableRef(
            stage=record.stage,
            unit=record.unit,
            key=record.key,
            sha256=table.sha256,
            path=folder / self.TABLE,
            counts=record.counts,
            content=record.content,
        )

    def _remove_abandoned(self, staging: Path) -> None:
        """Remove the folders of processes that have ended (their lock is free)."""
        for folder in [entry for entry in staging.iterdir() if entry.is_dir()]:
            try:
                lock = try_exclusive_lock(folder / self.LOCK)
            except FileNotFoundError:
                continue  # committed by its owner a moment ago
            if lock is not None:
                with lock:
                    shutil.rmtree(folder, ignore_errors=True)


def _add_files(content: str, files: Sequence[StoredFile]) -> str:
    """Combine the digest of a table's rows with those of files; unchanged without any."""
    if not files or not content:
        return content
    text = "".join(f"{file.path}\0{file.sha256}\n" for file in files)
    return hashlib.sha256(f"{content}\n{text}".encode()).hexdigest()


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
    """Flush all files and folders of a result to disk before it is renamed into place."""
    for folder, _, names in os.walk(out):
        for name in names:
            fsync_path(Path(folder, name))
        fsync_path(Path(folder))
