"""Find and kill the processes below one (Linux)."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def descendants(parent: int) -> list[int]:
    """Return the processes that a process started, directly or not."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # pid (name) state ppid ...; the name may contain anything, even brackets.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended a moment ago
        children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    left = [parent]
    while left:
        direct = children.get(left.pop(), [])
        found += direct
        left += direct
    return found


def kill(pid: int) -> None:
    """Send SIGKILL to a process, unless it has ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
