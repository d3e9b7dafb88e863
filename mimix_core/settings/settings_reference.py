"""List every setting with its default and meaning, from the settings models themselves."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mimix_core.settings.config import Config

TEMPLATE_SECTIONS = (
    "scenes",
    "overlays",
    "clips",
    "duplicates",
    "captions",
    "cutouts",
    "composites",
    "dataset",
)
"""Sections whose numbers decide what gets into the dataset."""

_TEMPLATE_FILES = {"captions.overrides": "captions-by-hand.jsonl"}
"""Files that commands write into a project, with a name to begin with."""

_NO_THRESHOLDS = ("seed", "workers", "crf")


@dataclass(frozen=True)
class SettingEntry:
    """One setting. ``key``: its dotted key. ``default``: as written in YAML, empty if required."""

    key: str
    default: str
    description: str


@dataclass(frozen=True)
class SettingsSection:
    """The settings of one section; the section ``""`` has the keys outside of any."""

    name: str
    description: str
    entries: tuple[SettingEntry, ...]


def settings_sections() -> list[SettingsSection]:
    """List all settings by section, in the order of the settings file."""
    outside = []
    sections = []
    for name, info in Config.model_fields.items():
        model = _section_model(info)
        if model is None:
            outside.append(_entry(name, info))
        else:
            description = info.description or ""
            sections.append(SettingsSection(name, description, tuple(_entries(model, name))))
    return [SettingsSection("", "Keys outside of any section.", tuple(outside)), *sections]


def format_settings_page(command: str) -> str:
    """Format the reference as a Markdown page that names the command that writes it."""
    lines = [
        "# Settings",
        "",
        "All keys of `mimix.yaml`, with their defaults. This page is generated from the code:",
        "",
        f"    {command}",
        "",
        "`mimix settings SECTION` prints the same in the shell.",
        "",
    ]
    for section in settings_sections():
        lines += [f"## {section.name or 'mimix.yaml'}", "", section.description, ""]
        lines += ["| key | default | meaning |", "| --- | --- | --- |"]
        lines += [
            f"| `{entry.key}` | {_code(entry.default)} | {_text(entry.description)} |"
            for entry in section.entries
        ]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def commented_numbers(section: str) -> str:
    """Format a section's numbers as YAML comments, each below its meaning, for a template.

    Without the ``# `` in front of each line they are settings of the section, all at their default,
    except for files that commands write.
    """
    model = _section_model(Config.model_fields[section])
    assert model is not None
    return "".join(_commented(model, section, "  "))


def _commented(model: type[BaseModel], section: str, indent: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        nested = _section_model(info)
        if nested is not None:
            if name in ("face", "embedding"):
                yield f"# {indent}{name}:\n"
                yield from _commented(nested, f"{section}.{name}", indent + "  ")
            continue
        value = _TEMPLATE_FILES.get(f"{section}.{name}")
        if value is None and _is_number(info.default) and name not in _NO_THRESHOLDS:
            value = _yaml(info.default)
        if value is not None:
            for line in textwrap.wrap(info.description or "", 96 - len(indent)):
                yield f"# {indent}# {line}\n"
            yield f"# {indent}{name}: {value}\n"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _entries(model: type[BaseModel], parent: str) -> Iterator[SettingEntry]:
    for name, info in model.model_fields.items():
        nested = _section_model(info)
        if nested is None:
            yield _entry(f"{parent}.{name}", info)
        else:
            yield from _entries(nested, f"{parent}.{name}")


def _entry(key: str, info: FieldInfo) -> SettingEntry:
    default = "" if info.is_required() else _yaml(info.get_default(call_default_factory=True))
    return SettingEntry(key, default, info.description or "")


def _section_model(info: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is a group of settings, also of an optional one."""
    for kind in (info.annotation, *get_args(info.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _yaml(value: Any) -> str:
    """Write a default as it would be written in the settings file."""
    if isinstance(value, Enum):
        return _yaml(value.value)
    if isinstance(value, Decimal):
        return f'"{value}"'
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, list | tuple):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    return json.dumps(value)


def _code(default: str) -> str:
    escaped = default.replace("|", "\\|")
    return f"`{escaped}`" if default else "required"


def _text(description: str) -> str:
    return description.replace("|", "\\|").replace("<", "&lt;")
