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
from pathlib import Path
from typing import BinaryIO


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Wait for the exclusive lock on a file, creating the file, and hold it in this context."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    """Wait for a shared lock on a file, creating the file, and hold it in this context."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def try_exclusive_lock(path: Path) -> BinaryIO | None:
    """Lock a file exclusively without waiting; closing the returned file releases the lock.

    Returns None while another process holds the lock. A holder may remove the lock file before it
    releases the lock; a lock on such a removed file protects nothing and also counts as None.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except (BlockingIOError, FileNotFoundError):
        file.close()
        return None
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
