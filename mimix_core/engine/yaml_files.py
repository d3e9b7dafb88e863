"""Read YAML files with the line of each key, and report validation errors by file, line and key.

Files may come from strangers. A document that would take long to load, or more memory than its size
suggests, is refused in one pass over its parser's events, before anything is built from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mimix_core.errors import BadInput

# Instead of pydantic's messages, which are for programmers, by type of error.
_MESSAGES = {
    "extra_forbidden": "unknown key",
    "missing": "this key is missing",
    "model_type": "must have keys with values, as in {key: value}",
}
# Of a value that is one of several names or a module's.
_MODULE_ALTERNATIVE = "constrained-str"

KeyPath = tuple[str | int, ...]
"""Mapping keys and list indices from the document's root to a value."""

LineNumbers = dict[KeyPath, int]
"""The line, counted from 1, of each key of a YAML document."""

MAX_FILE_BYTES = 64_000_000
MAX_DEPTH = 64
MAX_ALIASED_VALUES = 100_000
"""Number of values that aliases (``*name``) may add to those written in the file."""
MAX_NUMBER_LENGTH = 100
MAX_PROBLEMS = 20
"""Number of problems that one message lists."""
MAX_QUOTED_LENGTH = 80
"""Number of characters of a key or value that a message quotes."""

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser where PyYAML was built with it: about ten times faster."""

_INT_TAG, _FLOAT_TAG = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


def read_yaml_file(path: Path) -> tuple[Any, LineNumbers]:
    """Read a YAML document as plain Python values, with the line number of each key.

    Raises BadInput when the file is missing, is not valid YAML, contains a key twice, or exceeds
    one of the limits of this module.
    """
    text = _read_text(path)
    try:
        _check_limits(path, text)
        root = yaml.compose(text, Loader=_PARSER)
        lines: LineNumbers = {}
        if root is not None:
            _collect_lines(path, root, (), lines)
        return _SafeConstructor(path).construct_root(root), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = str(path) if mark is None else _line(path, mark.line + 1)
        reasons = [str(part) for part in (error.context, error.problem) if part]
        raise BadInput(f"not readable as YAML: {', '.join(reasons)}", where=where) from error
    except yaml.YAMLError as error:
        raise BadInput(
            f"not readable as YAML: {str(error).splitlines()[0]}", where=str(path)
        ) from error


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BadInput(
                f"has {size / 1e6:.0f} MB, the limit is {MAX_FILE_BYTES / 1e6:.0f} MB",
                where=str(path),
                fix="Check that it is the file you mean.",
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInput("no such file", where=str(path), fix="Check the path.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadInput(
            f"not readable as YAML: byte 0x{error.object[error.start]:02x} is not UTF-8",
            where=_line(path, line),
            fix="Save the file as UTF-8.",
        ) from error
    except OSError as error:
        raise BadInput(f"not readable as YAML: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise BadInput(f"not the name of a file: {error}", where=repr(str(path))) from error


@dataclass
class _OpenCollection:
    """A mapping or list whose end was not parsed yet; ``values`` counts it with all below it."""

    anchor: str | None
    values: int = 1


@dataclass
class _ExpandedSize:
    """Number of values of a document, with each alias counted as what it refers to."""

    open: list[_OpenCollection] = field(default_factory=list)
    anchored: dict[str, int | None] = field(default_factory=dict)
    """Values below each anchor; None while its collection is open."""
    aliased: int = 0

    def start(self, anchor: str | None) -> None:
        self.open.append(_OpenCollection(anchor))
        if anchor is not None:
            self.anchored[anchor] = None

    def end(self) -> None:
        collection = self.open.pop()
        self.add(collection.values, collection.anchor)

    def add(self, values: int, anchor: str | None = None) -> None:
        if anchor is not None:
            self.anchored[anchor] = values
        if self.open:
            self.open[-1].values += values


def _check_limits(path: Path, text: str) -> None:
    """Raise BadInput for a document that is too deep, expands too far, or contains itself."""
    size = _ExpandedSize()
    for event in yaml.parse(text, Loader=_PARSER):
        where = "" if event.start_mark is None else _line(path, event.start_mark.line + 1)
        if isinstance(event, yaml.CollectionStartEvent):
            size.start(event.anchor)
            if len(size.open) > MAX_DEPTH:
                raise BadInput(
                    f"nested more than {MAX_DEPTH} levels deep",
                    where=where,
                    fix="Close the brackets, or correct the indentation.",
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            size.end()
        elif isinstance(event, yaml.ScalarEvent):
            size.add(1, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in size.anchored:
                raise BadInput(
                    f"*{event.anchor} repeats a value that no &{event.anchor} before it names",
                    where=where,
                    fix="Put text that begins with * in quotes, e.g. glob patterns.",
                )
            values = size.anchored[event.anchor]
            if values is None:
                raise BadInput(
                    f"*{event.anchor} is used inside of &{event.anchor}, which it repeats",
                    where=where,
                    fix="Write out what you mean.",
                )
            size.aliased += values
            if size.aliased > MAX_ALIASED_VALUES:
                raise BadInput(
                    f"aliases (*{event.anchor}) repeat more than {MAX_ALIASED_VALUES:,} values",
                    where=where,
                    fix="Write out what you mean, or split the file.",
                )
            size.add(values)


def _collect_lines(path: Path, node: yaml.Node, key: KeyPath, lines: LineNumbers) -> None:
    """Add the line of each key below ``node``. Raises BadInput for a key that occurs twice."""
    lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for child, value in node.value:
            line = child.start_mark.line + 1
            if not isinstance(child, yaml.ScalarNode):
                raise BadInput(
                    "a key is a list or a mapping",
                    where=_line(path, line),
                    fix="Write a word before the colon; put text with a colon in quotes.",
                )
            if child.value in first:
                raise BadInput(
                    f"duplicate key {_shorten(child.value)!r}, again in line {line}",
                    where=_line(path, first[child.value]),
                )
            first[child.value] = line
            lines[(*key, child.value)] = line
            _collect_lines(path, value, (*key, child.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(path, value, (*key, index), lines)


class _SafeConstructor(yaml.constructor.SafeConstructor):
    """Construct plain Python values; a value that Python cannot represent names its line."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def construct_root(self, root: yaml.Node | None) -> Any:
        """Construct a document; None if it is empty."""
        return None if root is None else self.construct_document(root)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        where = _line(self._path, node.start_mark.line + 1)
        is_number = node.tag in (_INT_TAG, _FLOAT_TAG)
        if is_number and len(node.value) > MAX_NUMBER_LENGTH:
            raise BadInput(
                f"a number of {len(node.value):,} characters, the limit is {MAX_NUMBER_LENGTH}",
                where=where,
                fix="Write it shorter, or in quotes if it is text.",
            )
        try:
            return super().construct_object(node, deep=deep)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or error
            raise BadInput(f"not readable as YAML: {problem}", where=where) from error
        except (ValueError, OverflowError, TypeError, KeyError, AttributeError) as error:
            raise BadInput(
                f"not readable as YAML: {_shorten(str(node.value))!r}: {error}",
                where=where,
                fix="Correct it, or put it in quotes if it is text.",
            ) from error


def _line(path: Path, line: int) -> str:
    return f"{path}, line {line}"


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_QUOTED_LENGTH else f"{text[:MAX_QUOTED_LENGTH]}..."


def validation_error(
    path: Path,
    error: ValidationError,
    lines: LineNumbers,
    parent: KeyPath = (),
    *,
    hint_for_unknown: Callable[[KeyPath], str] = lambda key: "",
) -> BadInput:
    """Combine all validation errors of the YAML file ``path`` into one BadInput.

    ``parent`` is the key of the validated value, if that is not the complete document.
    ``hint_for_unknown`` says which key was probably meant, or nothing.
    """
    messages: dict[KeyPath, str] = {}
    problems = error.errors(include_url=False, include_input=False)
    with_problems_inside = {
        problem["loc"][:end] for problem in problems for end in range(len(problem["loc"]))
    }
    for problem in problems:
        if problem["type"] == "too_short" and problem["loc"] in with_problems_inside:
            continue  # The invalid entries of a list do not count in its length.
        key = tuple(part for part in problem["loc"] if not _is_alternative(part))
        message = _MESSAGES.get(problem["type"], problem["msg"].removeprefix("Value error, "))
        if problem["type"] == "too_short" and problem["ctx"]["min_length"] == 1:
            message = "must not be empty"
        if problem["type"] == "extra_forbidden":
            message += hint_for_unknown(key)
        if key in messages and problem["loc"][-1] == _MODULE_ALTERNATIVE:
            message = f"{messages[key]}, or the dotted name of a module outside MiMix"
        elif key in messages:
            message = f"{messages[key]}; {message}"
        messages[key] = message
    shown = [
        f"{format_location(path, lines, (*parent, *key))}: {message}"
        for key, message in list(messages.items())[:MAX_PROBLEMS]
    ]
    return BadInput(join_problems(shown, len(messages)), fix="Correct the file and run again.")


def _is_alternative(part: str | int) -> bool:
    """Return whether a part of pydantic's location is no key, but an alternative of a type."""
    return isinstance(part, str) and (part == _MODULE_ALTERNATIVE or part.startswith("literal["))


def join_problems(messages: Sequence[str], total: int) -> str:
    """Join the first MAX_PROBLEMS of ``total`` messages, and count the others."""
    shown = messages[:MAX_PROBLEMS]
    more = [f"and {total - len(shown):,} more"] if total > len(shown) else []
    return "; ".join([*shown, *more])


def find_line(lines: LineNumbers, key: KeyPath) -> int:
    """Return the line of a key or of its nearest parent: keys that aliases merge have no line."""
    return next((lines[key[:n]] for n in range(len(key), -1, -1) if key[:n] in lines), 1)


def format_location(path: Path, lines: LineNumbers, key: KeyPath) -> str:
    """Format ``file, line 12, key shows.0.style``, with the line of the key or its nearest parent.

    A document without any known line counts as line 1.
    """
    line = find_line(lines, key)
    label = ".".join(_shorten(str(part)) for part in key)
    return f"{path}, line {line}" + (f", key {label}" if label else "")
