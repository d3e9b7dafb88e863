"""Putting a file into a folder whole or not at all, and never over another."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from mimix_core.engine.artifacts import digest_file
from mimix_core.engine.atomic_io import sync

PART = ".mimix-ingest-part"
LOCK = ".mimix-ingest-lock"
_BLOCK = 1 << 22
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV)


class How(StrEnum):
    """How content gets into the library's folder."""

    COPY = "copy"
    MOVE = "move"
    LINK = "link"


class Changed(Exception):
    """The file is no longer what it was when it was looked at."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other ingest works on the folder, and sweep up after one that was killed."""
    with (folder / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(f"{PART}*"):
            left.unlink()
        yield


def place(source: Path, target: Path, sha256: str, how: How) -> None:
    """Give ``target`` the content of ``source``, which has this digest.

    The name ``target`` appears in one step, with all its bytes on disk. Raises FileExistsError when
    it is there already, and Changed when ``source`` has other content by now.
    """
    if how is How.LINK:
        target.symlink_to(source.resolve())
    elif how is How.MOVE and _rename(source, target):
        pass
    else:
        _copy(source, target, sha256)
        if how is How.MOVE:
            source.unlink()
    sync(target.parent)


def same(path: Path, sha256: str) -> bool:
    """Whether the file is there with this content."""
    return path.is_file() and digest_file(path) == sha256


def _rename(source: Path, target: Path) -> bool:
    """Give a file another name on its own file system. False where that cannot be done safely."""
    if source.is_symlink():
        return False
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NO_HARD_LINKS:
            return False
        raise
    source.unlink()
    return True


def _copy(source: Path, target: Path, sha256: str) -> None:
    part = target.parent / f"{PART}-{sha256[:16]}"
    try:
        digest = hashlib.sha256()
        with source.open("rb") as read, part.open("xb") as written:
            while block := read.read(_BLOCK):
                digest.update(block)
                written.write(block)
            written.flush()
            os.fsync(written.fileno())
        if digest.hexdigest() != sha256:
            raise Changed(source)
        shutil.copystat(source, part)
        try:
            os.link(part, target)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
            part.rename(target)
    finally:
        part.unlink(missing_ok=True)
