"""What a disk may hold after a crash, computed from recorded system calls.

Until bytes and names are durable (see ``disk``), a crash of the machine may have kept all of it,
nothing, names without bytes, zeros or a half of the bytes, or any single change of names without
the others. A killed process loses nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.disk import Disk
from tests.faults.file_tree import Change, File, NamedTree, Node, list_tree, needed_changes
from tests.faults.syscalls import Call

MARK = "CRASH-POINTS "
"""What a program writes to its standard output to say what it has promised so far."""


@dataclass(frozen=True)
class State:
    """Files after a crash: contents by relative path; None is a folder, str a symbolic link."""

    kind: str
    files: dict[str, bytes | str | None]

    def digest(self) -> str:
        """Identify the files."""
        return hashlib.sha256(repr(sorted(self.files.items())).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the files to an empty folder."""
        for name, content in sorted(self.files.items()):
            path = folder / name
            if content is None:
                path.mkdir()
            elif isinstance(content, str):
                path.symlink_to(content)
            else:
                path.write_bytes(content)


@dataclass(frozen=True)
class CrashPoint:
    """What may be on disk if the machine stops behind one call. ``promised``: the last mark."""

    call: str
    promised: str
    states: tuple[State, ...]


def replay(disk: Disk, calls: Sequence[Call]) -> Iterator[CrashPoint]:
    """Yield a crash point at the mark 0 and after each later call that changes something."""
    promised, begun = "", False
    for call in calls:
        mark = _read_mark(call)
        changed = disk.apply(call)
        if mark is not None:
            promised = mark
            if not begun and mark == "0":
                begun = True
                disk.persist_all()
        if begun and (changed or mark is not None):
            yield CrashPoint(call.name, promised, tuple(_states(disk)))


def _read_mark(call: Call) -> str | None:
    if call.name != "write" or call.number(0) != 1:
        return None
    text = call.arguments[1]
    assert isinstance(text, bytes)
    if not text.startswith(MARK.encode()):
        return None
    return text.decode().removeprefix(MARK).strip()


def _states(disk: Disk) -> Iterator[State]:
    pending = [change for change in disk.changes if not change.persisted]
    files = _files(disk.durable_names.values(), disk.changes)
    current = {id(file): bytes(file.data) for file in files}
    synced = {id(file): file.durable for file in files}
    kept = [change for change in disk.changes if change.persisted]
    candidates = [
        State("everything", list_tree(_rebuilt(disk, disk.changes), current)),
        State("what was synchronized", list_tree(_rebuilt(disk, kept), synced)),
        State("names without bytes", list_tree(_rebuilt(disk, disk.changes), synced)),
        State(
            "zeros",
            list_tree(_rebuilt(disk, disk.changes), {id(f): _zeros(f) for f in files}),
        ),
        State(
            "half of the bytes",
            list_tree(_rebuilt(disk, disk.changes), {id(f): _half(f) for f in files}),
        ),
    ]
    for one in pending:
        others = [change for change in disk.changes if change is not one]
        candidates.append(
            State("one change of names lost", list_tree(_rebuilt(disk, others), current))
        )
        alone = [c for c in disk.changes if c.persisted or c in needed_changes(disk.changes, one)]
        candidates.append(
            State("one change of names alone", list_tree(_rebuilt(disk, alone), synced))
        )
    seen = set()
    for state in candidates:
        if state.digest() not in seen:
            seen.add(state.digest())
            yield state


def _rebuilt(disk: Disk, changes: Sequence[Change]) -> NamedTree:
    """Apply some of the changes of names, in order, to what was there when all was durable."""
    names = dict(disk.durable_names)
    for change in changes:
        if any((id(folder), name) not in names for folder, name in change.removed):
            continue
        for folder, name in change.removed:
            del names[id(folder), name]
        for folder, name, node in change.added:
            names[id(folder), name] = node
    return NamedTree(disk.tree, names)


def _files(before: Iterable[Node], changes: Iterable[Change]) -> list[File]:
    nodes = {id(node): node for node in before}
    nodes |= {id(node): node for change in changes for _, _, node in change.added}
    return [node for node in nodes.values() if isinstance(node, File)]


def _zeros(file: File) -> bytes:
    return file.durable[: len(file.data)] + bytes(max(0, len(file.data) - len(file.durable)))


def _half(file: File) -> bytes:
    """Return what was synchronized, and of what differs from it the first half."""
    data, durable = bytes(file.data), file.durable
    same = next((i for i, (a, b) in enumerate(zip(data, durable, strict=False)) if a != b), None)
    start = min(len(data), len(durable)) if same is None else same
    middle = start + (len(data) - start) // 2
    return data[:middle] + durable[middle : len(durable) if len(durable) > len(data) else middle]
