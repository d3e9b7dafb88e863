"""What a disk may hold after a crash, computed from recorded system calls.

Nothing is on disk before it was synchronized: the bytes of a file by ``fsync`` of the file, names
in a folder by ``fsync`` of the folder (POSIX promises no more; most file systems do). Until then a
crash of the machine may have kept all of it, nothing, names without bytes, zeros or a half of the
bytes, or any single change of names without the others. A killed process loses nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.syscalls import Call, vector

MARK = "CRASH-POINTS "
"""What a program writes to its standard output to say what it has promised so far."""


@dataclass(eq=False)
class File:
    """A file: its bytes as programs see them, and what is on disk for sure."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""


@dataclass(eq=False)
class Folder:
    """A folder: its entries as programs see them."""

    entries: dict[str, Node] = field(default_factory=dict)


@dataclass(eq=False)
class Link:
    """A symbolic link."""

    target: str


Node = File | Folder | Link


@dataclass(eq=False)
class Change:
    """One atomic change of names: what is removed, then what is put in its place."""

    removed: tuple[tuple[Folder, str], ...]
    added: tuple[tuple[Folder, str, Node], ...]
    persisted: bool = False

    def folders(self) -> set[int]:
        """Return the ids of the folders whose names change."""
        return {id(one[0]) for one in (*self.removed, *self.added)}


@dataclass
class _Open:
    """An open file description. ``node`` is None for what is not below the root."""

    path: str
    node: Node | None
    offset: int = 0
    append: bool = False


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


class Disk:
    """Replay recorded calls on the files below ``root``, which was empty at the start."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.tree = Folder()
        self.changes: list[Change] = []
        self.promised = ""
        self._open: dict[int, _Open] = {}
        self._cwd = str(Path.cwd())

    def replay(self, calls: Sequence[Call]) -> Iterator[CrashPoint]:
        """Yield a crash point at the mark 0 and after each later call that changes something."""
        begun = False
        for call in calls:
            is_mark = self._is_mark(call)
            changed = self._apply(call)
            if is_mark and not begun and self.promised == "0":
                begun = True
                self._persist_all()
            if begun and (changed or is_mark):
                yield CrashPoint(call.name, self.promised, tuple(self._states()))

    def files(self) -> dict[str, bytes | str | None]:
        """Return what programs see."""
        return _listing(self.tree, {})

    def _is_mark(self, call: Call) -> bool:
        if call.name != "write" or call.number(0) != 1:
            return False
        text = call.arguments[1]
        assert isinstance(text, bytes)
        if not text.startswith(MARK.encode()):
            return False
        self.promised = text.decode().removeprefix(MARK).strip()
        return True

    def _states(self) -> Iterator[State]:
        pending = [change for change in self.changes if not change.persisted]
        files = _files(self._before.values(), self.changes)
        current = {id(file): bytes(file.data) for file in files}
        synced = {id(file): file.durable for file in files}
        kept = [change for change in self.changes if change.persisted]
        candidates = [
            State("everything", _listing(self._rebuilt(self.changes), current)),
            State("what was synchronized", _listing(self._rebuilt(kept), synced)),
            State("names without bytes", _listing(self._rebuilt(self.changes), synced)),
            State(
                "zeros",
                _listing(self._rebuilt(self.changes), {id(f): _zeros(f) for f in files}),
            ),
            State(
                "half of the bytes",
                _listing(self._rebuilt(self.changes), {id(f): _half(f) for f in files}),
            ),
        ]
        for one in pending:
            others = [change for change in self.changes if change is not one]
            candidates.append(
                State("one change of names lost", _listing(self._rebuilt(others), current))
            )
            alone = [c for c in self.changes if c.persisted or c in self._needs(one)]
            candidates.append(
                State("one change of names alone", _listing(self._rebuilt(alone), synced))
            )
        seen = set()
        for state in candidates:
            if state.digest() not in seen:
                seen.add(state.digest())
                yield state

    def _rebuilt(self, changes: Sequence[Change]) -> _Names:
        """Apply some of the changes of names, in order, to what was there at the first mark."""
        names = dict(self._before)
        for change in changes:
            if any((id(folder), name) not in names for folder, name in change.removed):
                continue
            for folder, name in change.removed:
                del names[id(folder), name]
            for folder, name, node in change.added:
                names[id(folder), name] = node
        return _Names(self.tree, names)

    def _needs(self, change: Change) -> list[Change]:
        """Return a change and those before it that put there what it moves or removes."""
        needed = [change]
        missing = {(id(folder), name) for folder, name in change.removed}
        for earlier in reversed(self.changes[: self.changes.index(change)]):
            put = {(id(folder), name) for folder, name, _ in earlier.added}
            if missing & put:
                needed.append(earlier)
                missing = (missing - put) | {(id(f), name) for f, name in earlier.removed}
        return needed

    def _persist_all(self) -> None:
        self.changes.clear()
        self._before = dict(_all_names(self.tree))
        for node in self._before.values():
            if isinstance(node, File):
                node.durable = bytes(node.data)

    # System calls

    def _apply(self, call: Call) -> bool:
        """Apply a call; return whether it changed anything below the root."""
        handler = getattr(self, f"_do_{call.name}", None)
        return bool(handler(call)) if handler is not None else False

    def _resolve(self, call: Call, folder: int | None, position: int) -> str:
        path = call.text(position)
        base = self._cwd
        if folder is not None and (number := call.number(folder)) != -100:
            base = self._open[number].path
        return os.path.normpath(os.path.join(base, path))

    def _find(self, path: str) -> tuple[Folder, str] | None:
        """Return the folder below the root that holds a path, and its name there."""
        if not path.startswith(self.root + "/"):
            return None
        *above, name = path.removeprefix(self.root + "/").split("/")
        node: Node | None = self.tree
        for part in above:
            node = node.entries.get(part) if isinstance(node, Folder) else None
        return (node, name) if isinstance(node, Folder) else None

    def _node(self, path: str) -> Node | None:
        if path == self.root:
            return self.tree
        place = self._find(path)
        return place[0].entries.get(place[1]) if place else None

    def _change(
        self, removed: list[tuple[Folder, str]], added: list[tuple[Folder, str, Node]]
    ) -> bool:
        for folder, name in removed:
            del folder.entries[name]
        for folder, name, node in added:
            folder.entries[name] = node
        self.changes.append(Change(tuple(removed), tuple(added)))
        return True

    def _do_openat(self, call: Call) -> bool:
        return self._opened(call, self._resolve(call, 0, 1), call.flags(2))

    def _do_open(self, call: Call) -> bool:
        return self._opened(call, self._resolve(call, None, 0), call.flags(1))

    def _do_creat(self, call: Call) -> bool:
        flags = frozenset({"O_CREAT", "O_TRUNC", "O_WRONLY"})
        return self._opened(call, self._resolve(call, None, 0), flags)

    def _opened(self, call: Call, path: str, flags: frozenset[str]) -> bool:
        assert "O_TMPFILE" not in flags, "files without a name are not modelled"
        node, changed = self._node(path), False
        place = self._find(path)
        if node is None and place is not None and "O_CREAT" in flags:
            node = File()
            changed = self._change([], [(*place, node)])
        if isinstance(node, File) and "O_TRUNC" in flags and node.data:
            node.data.clear()
            changed = True
        self._open[call.result] = _Open(path, node, append="O_APPEND" in flags)
        return changed

    def _do_close(self, call: Call) -> bool:
        self._open.pop(call.number(0), None)
        return False

    def _do_dup(self, call: Call) -> bool:
        if call.number(0) in self._open:
            self._open[call.result] = self._open[call.number(0)]
        return False

    _do_dup2 = _do_dup3 = _do_dup

    def _do_lseek(self, call: Call) -> bool:
        if call.number(0) in self._open:
            self._open[call.number(0)].offset = call.result
        return False

    def _do_read(self, call: Call) -> bool:
        if call.number(0) in self._open:
            self._open[call.number(0)].offset += call.result
        return False

    def _file(self, number: int) -> File | None:
        opened = self._open.get(number)
        return opened.node if opened and isinstance(opened.node, File) else None

    def _write(self, number: int, content: bytes, offset: int | None) -> bool:
        file = self._file(number)
        if file is None:
            return False
        opened = self._open[number]
        if offset is None:
            start = len(file.data) if opened.append else opened.offset
            opened.offset = start + len(content)
        else:
            start = offset
        file.data.extend(bytes(max(0, start - len(file.data))))
        file.data[start : start + len(content)] = content
        return True

    def _do_write(self, call: Call) -> bool:
        content = call.arguments[1]
        assert isinstance(content, bytes)
        return self._write(call.number(0), content[: call.result], None)

    def _do_writev(self, call: Call) -> bool:
        content = call.arguments[1]
        assert isinstance(content, str)
        return self._write(call.number(0), vector(content)[: call.result], None)

    def _do_pwrite64(self, call: Call) -> bool:
        content = call.arguments[1]
        assert isinstance(content, bytes)
        return self._write(call.number(0), content[: call.result], call.number(3))

    def _do_ftruncate(self, call: Call) -> bool:
        return self._resize(self._file(call.number(0)), call.number(1))

    def _do_truncate(self, call: Call) -> bool:
        node = self._node(self._resolve(call, None, 0))
        return self._resize(node if isinstance(node, File) else None, call.number(1))

    def _resize(self, file: File | None, size: int) -> bool:
        if file is None:
            return False
        del file.data[size:]
        file.data.extend(bytes(size - len(file.data)))
        return True

    def _do_fallocate(self, call: Call) -> bool:
        assert self._file(call.number(0)) is None, "fallocate is not modelled"
        return False

    def _do_sendfile(self, call: Call) -> bool:
        return self._copied(call.number(0), call.number(1), call.result)

    def _do_copy_file_range(self, call: Call) -> bool:
        return self._copied(call.number(2), call.number(0), call.result)

    def _copied(self, target: int, source: int, count: int) -> bool:
        opened = self._open[source]
        content = (
            bytes(opened.node.data)
            if isinstance(opened.node, File)
            else Path(opened.path).read_bytes()
        )
        start = opened.offset
        opened.offset += count
        return self._write(target, content[start : start + count], None)

    def _do_mmap(self, call: Call) -> bool:
        number = int(str(call.arguments[4]), 0)
        shared = {"PROT_WRITE"} <= call.flags(2) and {"MAP_SHARED"} <= call.flags(3)
        assert not (shared and self._file(number)), "writes through a mapping are not recorded"
        return False

    def _do_ioctl(self, call: Call) -> bool:
        assert "FICLONE" not in str(call.arguments[1]), "clones of files are not modelled"
        return False

    def _do_chdir(self, call: Call) -> bool:
        self._cwd = self._resolve(call, None, 0)
        return False

    def _do_fsync(self, call: Call) -> bool:
        opened = self._open.get(call.number(0))
        if opened is None or opened.node is None:
            return False
        if isinstance(opened.node, File):
            opened.node.durable = bytes(opened.node.data)
        for change in [c for c in self.changes if id(opened.node) in c.folders()]:
            for needed in self._needs(change):
                needed.persisted = True
        return True

    _do_fdatasync = _do_fsync

    def _renamed(self, old: str, new: str) -> bool:
        source, target = self._find(old), self._find(new)
        if source is None and target is None:
            return False
        assert source and target, f"a rename over the root's border: {old} to {new}"
        node = source[0].entries[source[1]]
        removed = [source]
        return self._change(removed, [(*target, node)])

    def _do_rename(self, call: Call) -> bool:
        return self._renamed(self._resolve(call, None, 0), self._resolve(call, None, 1))

    def _do_renameat(self, call: Call) -> bool:
        return self._renamed(self._resolve(call, 0, 1), self._resolve(call, 2, 3))

    _do_renameat2 = _do_renameat

    def _linked(self, old: str, new: str) -> bool:
        target = self._find(new)
        if target is None:
            return False
        node = self._node(old)
        assert node is not None, f"a hard link to {old}, which is not below the root"
        return self._change([], [(*target, node)])

    def _do_link(self, call: Call) -> bool:
        return self._linked(self._resolve(call, None, 0), self._resolve(call, None, 1))

    def _do_linkat(self, call: Call) -> bool:
        return self._linked(self._resolve(call, 0, 1), self._resolve(call, 2, 3))

    def _do_symlink(self, call: Call) -> bool:
        target = self._find(self._resolve(call, None, 1))
        return bool(target) and self._change([], [(*target, Link(call.text(0)))])  # type: ignore[misc]

    def _do_symlinkat(self, call: Call) -> bool:
        target = self._find(self._resolve(call, 1, 2))
        return bool(target) and self._change([], [(*target, Link(call.text(0)))])  # type: ignore[misc]

    def _removed(self, path: str) -> bool:
        place = self._find(path)
        return bool(place) and self._change([place], [])  # type: ignore[list-item]

    def _do_unlink(self, call: Call) -> bool:
        return self._removed(self._resolve(call, None, 0))

    _do_rmdir = _do_unlink

    def _do_unlinkat(self, call: Call) -> bool:
        return self._removed(self._resolve(call, 0, 1))

    def _made(self, path: str) -> bool:
        place = self._find(path)
        return bool(place) and self._change([], [(*place, Folder())])  # type: ignore[misc]

    def _do_mkdir(self, call: Call) -> bool:
        return self._made(self._resolve(call, None, 0))

    def _do_mkdirat(self, call: Call) -> bool:
        return self._made(self._resolve(call, 0, 1))


@dataclass(frozen=True)
class _Names:
    """A tree by the names in each folder."""

    root: Folder
    names: dict[tuple[int, str], Node]


def _listing(tree: _Names | Folder, contents: dict[int, bytes]) -> dict[str, bytes | str | None]:
    """List a tree; ``contents`` by the ids of files, else as programs see them."""
    names = tree.names if isinstance(tree, _Names) else dict(_all_names(tree))
    root = tree.root if isinstance(tree, _Names) else tree
    below: dict[int, list[tuple[str, Node]]] = {}
    for (folder, name), node in names.items():
        below.setdefault(folder, []).append((name, node))
    found: dict[str, bytes | str | None] = {}
    waiting: list[tuple[str, Folder]] = [("", root)]
    while waiting:
        prefix, folder = waiting.pop()
        for name, node in below.get(id(folder), []):
            path = f"{prefix}{name}"
            if isinstance(node, Folder):
                found[path] = None
                waiting.append((f"{path}/", node))
            elif isinstance(node, Link):
                found[path] = node.target
            else:
                found[path] = contents.get(id(node), bytes(node.data))
    return found


def _all_names(folder: Folder) -> Iterator[tuple[tuple[int, str], Node]]:
    for name, node in folder.entries.items():
        yield (id(folder), name), node
        if isinstance(node, Folder):
            yield from _all_names(node)


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
