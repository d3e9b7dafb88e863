"""Lock files between processes, and between machines that share a file system.

All locks are ``flock``: the kernel releases them when their process ends, however it ends, and they
hold between machines where the file system carries them (NFS 4, CephFS; not SMB, not object
stores). The package ``filelock`` has no shared locks and does not notice a replaced lock file,
both of which the store needs (docs/decisions/0025).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from mimix_core.engine.atomic_io import make_folder


@contextmanager
def exclusive_lock(path: Path) -> Iterator[FileIO]:
    """Wait for the exclusive lock on a file and hold it in this context; yields the open file.

    The file and its folder are created. If another process removes them meanwhile, they are created
    again: a lock on a removed file protects nothing.
    """
    while True:
        make_folder(path.parent)
        try:
            file = _open(path)
        except FileNotFoundError:
            continue
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_current(file, path):
                yield file
                return


@contextmanager
def shared_lock(path: Path) -> Iterator[FileIO]:
    """Wait for a shared lock on a file, creating the file, and hold it in this context."""
    with _open(path) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield file


@contextmanager
def sole_holder(file: FileIO) -> Iterator[bool]:
    """Make a shared lock exclusive in this context, if nobody else holds it; yield whether it is.

    It is shared again afterwards. Others may hold the lock for a moment in between, since the
    kernel does not convert locks atomically.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_sole = True
    except BlockingIOError:
        is_sole = False
    try:
        yield is_sole
    finally:
        fcntl.flock(file, fcntl.LOCK_SH)


def try_exclusive_lock(path: Path) -> FileIO | None:
    """Lock a file exclusively without waiting; closing the returned file releases the lock.

    Returns None while another process holds the lock. A holder may remove the lock file before it
    releases the lock; a lock on such a removed file protects nothing and also counts as None.
    """
    file = _open(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    if _is_current(file, path):
        return file
    file.close()
    return None


def is_locked(path: Path) -> bool:
    """Return whether any process holds the exclusive lock on a file; False if it is missing."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _open(path: Path) -> FileIO:
    """Open a file for reading and writing at any position, creating it."""
    return FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")


def _is_current(file: FileIO, path: Path) -> bool:
    """Return whether the open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
