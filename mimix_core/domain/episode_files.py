"""Expand the paths of episodes in ``library.yaml``: names, and glob patterns of names.

Names are compared with composed characters: ``é`` of a file and of the library may be one
character or two (macOS writes two). Brackets in a name are the name's (``Show [1080p]/*.mkv``)
where such a file exists, and a set of characters (``e0[1-3]*.mkv``) where none does.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from fnmatch import translate
from pathlib import Path

from mimix_core.domain.sidecar_index import SIDECAR_EXTENSIONS
from mimix_core.engine.input_files import file_exists


def is_glob(path: Path) -> bool:
    """Return whether an episode's path is a glob pattern."""
    return any(mark in os.fspath(path) for mark in "*?")


class ComposedNames:
    """The entries of folders by their names with composed characters; each is listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, Path]] = {}

    def find(self, folder: Path, name: str) -> Path | None:
        """Return the entry whose name is ``name`` in another spelling; None without one."""
        if folder not in self._folders:
            self._folders[folder] = {
                unicodedata.normalize("NFC", entry): folder / entry
                for entry in reversed(_names(folder))
            }
        return self._folders[folder].get(unicodedata.normalize("NFC", name))


def find_episode_files(base: Path, pattern: Path, names: ComposedNames | None = None) -> list[Path]:
    """List the existing files of an episode's path, sorted; they may be unreadable as videos.

    Pass one ``names`` for several paths, so that their folders are listed once. As in a shell, a
    glob pattern does not match names that start with a dot.
    """
    names = names or ComposedNames()
    if not is_glob(pattern):
        return _find_named(base, pattern, names)
    root = Path(pattern.anchor) if pattern.anchor else base
    matches = sorted(_expand(root, _parts(pattern), names))
    return [path for path in matches if path.suffix.lower() not in SIDECAR_EXTENSIONS]


def find_file(base: Path, path: Path, names: ComposedNames | None = None) -> Path | None:
    """Return the existing file of a path whose accents may be spelled differently; else None."""
    if file_exists(base / path):
        return base / path
    names = names or ComposedNames()
    found: Path | None = Path(path.anchor) if path.anchor else base
    for part in _parts(path):
        found = None if found is None else _find_entry(found, part, names)
    return found if found is not None and file_exists(found) else None


def _find_named(base: Path, path: Path, names: ComposedNames) -> list[Path]:
    found = find_file(base, path, names)
    if found is not None:
        return [found]
    if "[" not in os.fspath(path):
        return []
    root = Path(path.anchor) if path.anchor else base
    return sorted(match for match in _expand(root, _parts(path), names) if match.is_file())


def _parts(path: Path) -> tuple[str, ...]:
    return path.parts[1:] if path.anchor else path.parts


def _expand(root: Path, parts: Iterable[str], names: ComposedNames) -> set[Path]:
    """Return the paths below ``root`` that match all parts."""
    found = {root}
    for part in parts:
        found = {match for folder in found for match in _match_part(folder, part, names)}
    return found


def _match_part(folder: Path, part: str, composed_names: ComposedNames) -> Iterator[Path]:
    if part == "**":
        yield from _folders_below(folder)
        return
    if not any(mark in part for mark in "*?"):
        entry = _find_entry(folder, part, composed_names)
        if entry is not None:
            yield entry
            return
    names = [name for name in _names(folder) if part.startswith(".") or not name.startswith(".")]
    composed = unicodedata.normalize("NFC", part)
    for pattern in dict.fromkeys((composed.replace("[", "[[]"), composed)):
        matches = re.compile(translate(pattern)).match
        found = [name for name in names if matches(unicodedata.normalize("NFC", name))]
        if found:
            yield from (folder / name for name in found)
            return


def _find_entry(folder: Path, name: str, names: ComposedNames) -> Path | None:
    """Return the entry of that name, or else the one that is spelled with other characters."""
    if os.path.lexists(folder / name):
        return folder / name
    return None if name.isascii() else names.find(folder, name)


def _folders_below(folder: Path) -> Iterator[Path]:
    """Yield a folder and all folders below it; links are not followed, which may be circular."""
    for parent, names, _ in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        yield Path(parent)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []
