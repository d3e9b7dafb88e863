"""Read YAML files with the line of each key, and report validation errors by file, line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mimix_core.errors import BadInput

KeyPath = tuple[str | int, ...]
"""Mapping keys and list indices from the document's root to a value."""

LineNumbers = dict[KeyPath, int]
"""The line, counted from 1, of each key of a YAML document."""


def read_yaml_file(path: Path) -> tuple[Any, LineNumbers]:
    """Read a YAML document as plain Python values, with the line number of each key.

    Raises BadInput when the file is missing, is not valid YAML or contains a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise BadInput("no such file", where=str(path), fix="Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise BadInput(f"not readable as YAML: {error}", where=str(path)) from error
    lines: LineNumbers = {}

    def collect_lines(node: yaml.Node, key: KeyPath) -> None:
        lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            names = [child.value for child, _ in node.value]
            for child, value in node.value:
                line = child.start_mark.line + 1
                if names.count(child.value) > 1:
                    raise BadInput(f"duplicate key {child.value!r}", where=f"{path}, line {line}")
                lines[(*key, child.value)] = line
                collect_lines(value, (*key, child.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                collect_lines(value, (*key, index))

    if root is not None:
        collect_lines(root, ())
    return document, lines


def validation_error(
    path: Path, error: ValidationError, lines: LineNumbers, parent: KeyPath = ()
) -> BadInput:
    """Combine all validation errors of the YAML file ``path`` into one BadInput.

    ``parent`` is the key of the validated value, if that is not the complete document.
    """
    messages = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key"
        elif problem["type"] == "missing":
            message = "this key is missing"
        location = format_location(path, lines, (*parent, *problem["loc"]))
        messages.append(f"{location}: {message}")
    return BadInput("; ".join(messages), fix="Correct the file and run again.")


def format_location(path: Path, lines: LineNumbers, key: KeyPath) -> str:
    """Format ``file, line 12, key shows.0.style``, with the line of the key or its nearest parent.

    A document without any known line counts as line 1.
    """
    line = next((lines[key[:n]] for n in range(len(key), -1, -1) if key[:n] in lines), 1)
    label = ".".join(str(part) for part in key)
    return f"{path}, line {line}" + (f", key {label}" if label else "")
