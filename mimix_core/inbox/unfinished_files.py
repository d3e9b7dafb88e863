"""Recognize files that are still being written: by name, by change, by open handle, by content."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from mimix_core.inbox.container_end import STILL_WRITTEN, find_holes, find_missing_end

PARTIAL_SUFFIXES = (
    *(".part", ".partial", ".crdownload", ".download", ".opdownload", ".filepart", ".unfinished"),
    *(".aria2", ".!ut", ".!qb", ".!bt", ".bc!", ".td", ".tmp", ".temp"),
)
"""Ends of names that browsers, download managers and copy programs give to unfinished files."""

MAX_HOLE_SHARE = 0.05
"""Share of a file that may be holes; copies that skip runs of zeros have a few."""

_FileState = tuple[int, int, int, int, int]
"""Size, times of the last change of content and of inode, device and inode."""


def find_unfinished(
    paths: Iterable[Path],
    settle_seconds: float,
    sidecars: Mapping[Path, Iterable[tuple[Path, str]]],
) -> dict[Path, str]:
    """Return each file that is still being written, with the reason.

    Waits until ``settle_seconds`` have passed since the last change of every file, or less if all
    changes are older. A file whose ``sidecars`` are still being written is unfinished as well;
    they come with the rest of their names, as ``list_sidecars`` returns them.
    """
    paths = list(paths)
    watched = {path: [path, *(file for file, _ in sidecars.get(path, ()))] for path in paths}
    reasons = {path: reason for path in paths if (reason := _partial_name(path))}
    states = {file: _file_state(file) for files in watched.values() for file in files}
    ages = [_age(state) for state in states.values()]
    wait = max((settle_seconds - max(0.0, age) for age in ages), default=0.0)
    if wait > 0:
        time.sleep(wait)
    open_files = _open_for_writing()
    for path, files in watched.items():
        for file in files:
            reason = reasons.get(path) or _unfinished(file, states[file], open_files)
            if not reason and file == path:
                reason = _missing_content(path)
            if reason:
                reasons[path] = reason if file == path else f"its sidecar {file.name} {reason}"
                break
    return reasons


def _partial_name(path: Path) -> str:
    """Return why the names in its folder say that a file is unfinished; empty if they do not."""
    if path.name.lower().endswith(PARTIAL_SUFFIXES):
        return "has the name of an unfinished download or copy"
    for suffix in PARTIAL_SUFFIXES:
        if path.with_name(path.name + suffix).exists():
            return f"is unfinished: {path.name}{suffix} is next to it"
    return ""


def _unfinished(path: Path, before: _FileState | None, open_files: set[tuple[int, int]]) -> str:
    now = _file_state(path)
    if now is None or now != before:
        return "is still being written: it changed a moment ago"
    if now[3:] in open_files or _has_writer(path):
        return "is still being written: a program has it open for writing"
    return ""


def _missing_content(path: Path) -> str:
    try:
        holes = find_holes(path)
        if holes > MAX_HOLE_SHARE * path.stat().st_size:
            return f"has {holes:,} bytes that were never written: {STILL_WRITTEN}"
        return find_missing_end(path)
    except OSError:
        return ""  # unreadable, which ingesting it reports


def _file_state(path: Path) -> _FileState | None:
    try:
        stats = path.stat()
    except OSError:
        return None
    return stats.st_size, stats.st_mtime_ns, stats.st_ctime_ns, stats.st_dev, stats.st_ino


def _age(state: _FileState | None) -> float:
    """Return the seconds since a file last changed, by the time that programs cannot set."""
    return 0.0 if state is None else (time.time_ns() - state[2]) / 1e9


def _has_writer(path: Path) -> bool:
    """Return whether any process of this machine, in any container, has a file open for writing.

    The kernel grants a read lease only on a file without writers. Where it has no leases (network
    file systems, files of other users) the answer is False.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        with path.open("rb") as file:
            # A program that opens the file meanwhile breaks the lease; the default signal for that
            # would end this process.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


def _open_for_writing() -> set[tuple[int, int]]:
    """Return device and inode of the files open for writing in inspectable processes (Linux)."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            handles = list((process / "fd").iterdir())
        except OSError:
            continue  # another user's process, or one that has just ended
        found |= {written for handle in handles if (written := _written_file(process, handle))}
    return found


def _written_file(process: Path, handle: Path) -> tuple[int, int] | None:
    try:
        info = (process / "fdinfo" / handle.name).read_text()
        state = handle.stat()  # of the open file, even if it was renamed
    except OSError:
        return None  # it was just closed
    flags = int(info.split("flags:")[1].split()[0], 8)
    return None if flags & os.O_ACCMODE == os.O_RDONLY else (state.st_dev, state.st_ino)
