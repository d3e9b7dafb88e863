"""Read a settings file, and the one that it extends.

``extends: mimix.yaml`` takes all settings of another file in the same folder. What the extending
file itself has replaces them, key by key: sections are merged, numbers, texts and lists replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimix_core.engine.yaml_files import LineNumbers, format_location, read_yaml_file
from mimix_core.errors import BadInput

EXTENDS = "extends"


@dataclass(frozen=True)
class SettingsFile:
    """Settings as plain values, the lines of a file's own keys, and the file that it extends."""

    document: Any
    lines: LineNumbers
    extended: Path | None = None


def read_settings_file(path: Path) -> SettingsFile:
    """Read the settings of a file together with those of the one that it extends, if any.

    Raises BadInput if the other file cannot be read, is in another folder, to which its relative
    paths would refer, or extends a third one.
    """
    document, lines = read_yaml_file(path)
    if not isinstance(document, dict) or EXTENDS not in document:
        return SettingsFile(document, lines)
    name = document.pop(EXTENDS)
    where = format_location(path, lines, (EXTENDS,))
    if not isinstance(name, str) or Path(name).name != name:
        raise BadInput(
            f"{name!r} does not name a file in the same folder",
            where=where,
            fix="Write the name of a settings file beside this one, such as mimix.yaml.",
        )
    extended_path = path.parent / name
    if not extended_path.is_file():
        raise BadInput(
            f"the file {extended_path} does not exist", where=where, fix="Correct its name."
        )
    extended, _ = read_yaml_file(extended_path)
    if not isinstance(extended, dict) or EXTENDS in extended:
        raise BadInput(
            f"{name} cannot be extended: it has no settings, or extends another file itself",
            where=where,
            fix="Extend the file that has the settings.",
        )
    return SettingsFile(merge_settings(extended, document), lines, extended_path)


def merge_settings(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` with ``changes`` of the same form, merged at every level of mappings."""
    merged = dict(settings)
    for key, value in changes.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = merge_settings(before, value)
        else:
            merged[key] = value
    return merged
