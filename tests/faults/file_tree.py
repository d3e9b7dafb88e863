"""Files and folders as programs see them, and the changes of names that led to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


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


@dataclass(frozen=True)
class NamedTree:
    """A tree by the names in each folder."""

    root: Folder
    names: dict[tuple[int, str], Node]


def list_tree(
    tree: NamedTree | Folder, contents: dict[int, bytes]
) -> dict[str, bytes | str | None]:
    """List a tree; ``contents`` by the ids of files, else as programs see them."""
    names = tree.names if isinstance(tree, NamedTree) else dict(all_names(tree))
    root = tree.root if isinstance(tree, NamedTree) else tree
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


def all_names(folder: Folder) -> Iterator[tuple[tuple[int, str], Node]]:
    for name, node in folder.entries.items():
        yield (id(folder), name), node
        if isinstance(node, Folder):
            yield from all_names(node)


def needed_changes(changes: Sequence[Change], change: Change) -> list[Change]:
    """Return a change and those before it that put there what it moves or removes."""
    needed = [change]
    missing = {(id(folder), name) for folder, name in change.removed}
    for earlier in reversed(changes[: changes.index(change)]):
        put = {(id(folder), name) for folder, name, _ in earlier.added}
        if missing & put:
            needed.append(earlier)
            missing = (missing - put) | {(id(f), name) for f, name in earlier.removed}
    return needed
