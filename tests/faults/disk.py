"""What programs see on a disk, and what of it is durable, after recorded system calls.

Nothing is on disk before it was synchronized: the bytes of a file by ``fsync`` of the file, names
in a folder by ``fsync`` of the folder (POSIX promises no more; most file systems do).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.faults.file_tree import (
    Change,
    File,
    Folder,
    Link,
    Node,
    all_names,
    list_tree,
    needed_changes,
)
from tests.faults.syscalls import Call, vector


@dataclass
class _Open:
    """An open file description. ``node`` is None for what is not below the root."""

    path: str
    node: Node | None
    offset: int = 0
    append: bool = False


class Disk:
    """Apply recorded calls to the files below ``root``, which was empty at the start.

    ``changes``: of names, since everything was durable with ``durable_names``.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.tree = Folder()
        self.changes: list[Change] = []
        self.durable_names: dict[tuple[int, str], Node] = {}
        self._open: dict[int, _Open] = {}
        self._cwd = str(Path.cwd())

    def files(self) -> dict[str, bytes | str | None]:
        """Return what programs see."""
        return list_tree(self.tree, {})

    def persist_all(self) -> None:
        """Take all that is there now for durable."""
        self.changes.clear()
        self.durable_names = dict(all_names(self.tree))
        for node in self.durable_names.values():
            if isinstance(node, File):
                node.durable = bytes(node.data)

    def apply(self, call: Call) -> bool:
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
            for needed in needed_changes(self.changes, change):
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
