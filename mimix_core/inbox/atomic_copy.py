"""Copy, move or link a file into a folder atomically, without replacing another file."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from mimix_core.engine.artifacts import digest_file
from mimix_core.engine.atomic_io import fsync_path
from mimix_core.engine.locks import exclusive_lock

PART_PREFIX = ".mimix-ingest-part"
LOCK_FILE = ".mimix-ingest-lock"
_BLOCK_BYTES = 1 << 22
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV)


class TransferMode(StrEnum):
    """How a file gets into the library's folder."""

    COPY = "copy"
    MOVE = "move"
    LINK = "link"


class SourceChanged(Exception):
    """Raised when a file no longer has the content that was inspected."""


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Wait for exclusive access to the folder, and remove partial files of a killed ingest."""
    with exclusive_lock(folder / LOCK_FILE):
        for partial in folder.glob(f"{PART_PREFIX}*"):
            partial.unlink()
        yield


def transfer_file(source: Path, target: Path, sha256: str, mode: TransferMode) -> None:
    """Copy, move or link ``source``, which has this digest, to ``target``.

    ``target`` appears atomically, with all its bytes on disk. Raises FileExistsError when it exists
    already, and SourceChanged when the content of ``source`` has changed.
    """
    if mode is TransferMode.LINK:
        target.symlink_to(source.resolve())
    elif mode is TransferMode.MOVE and _rename(source, target):
        pass
    else:
        _copy(source, target, sha256)
        if mode is TransferMode.MOVE:
            fsync_path(target.parent)  # before the only other name is gone
            source.unlink()
    fsync_path(target.parent)


def has_content(path: Path, sha256: str) -> bool:
    """Return whether the file exists with this content."""
    return path.is_file() and digest_file(path) == sha256


def _rename(source: Path, target: Path) -> bool:
    """Rename a file within its file system; return False where that is not possible safely."""
    if source.is_symlink():
        return False
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NO_HARD_LINKS:
            return False
        raise
    fsync_path(target.parent)  # before the only other name is gone
    source.unlink()
    return True


def _copy(source: Path, target: Path, sha256: str) -> None:
    partial = target.parent / f"{PART_PREFIX}-{sha256[:16]}"
    try:
        digest = hashlib.sha256()
        with source.open("rb") as reader, partial.open("xb") as writer:
            while block := reader.read(_BLOCK_BYTES):
                digest.update(block)
                writer.write(block)
            writer.flush()
            os.fsync(writer.fileno())
        if digest.hexdigest() != sha256:
            raise SourceChanged(source)
        shutil.copystat(source, partial)
        try:
            os.link(partial, target)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
            partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
