"""Generate docs/tables.md and docs/errors.md from the code: ``python docs/reference_pages.py``.

A test fails when a page no longer says what the code does.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mimix_core import tables

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "python docs/reference_pages.py"
ERROR_CLASSES = ("BadInput", "MissingModel", "StageFailed", "Transient")
CODE = ("flows", "tasks", "mimix_core")


def tables_page() -> str:
    """Format the page of all tables and their columns."""
    found: list[tables.Table[Any]] = [
        value for value in vars(tables).values() if isinstance(value, tables.Table)
    ]
    comments = column_comments()
    lines = [
        "# Tables",
        "",
        "Stages exchange tables: Parquet (zstd), sorted by id, with the schema version and the",
        "stage key in the metadata. Every row has `status` (ok, rejected or failed), `reason`",
        "([reasons.md](reasons.md)) and `detail`. This page is generated from the code:",
        "",
        f"    {COMMAND}",
    ]
    for table in sorted(found, key=lambda one: one.name):
        parent = f", made from rows with the id `{table.parent}`" if table.parent else ""
        lines += [
            "",
            f"## {table.name}",
            "",
            f"Version {table.version}; one row for each `{table.id}`{parent}.",
            "",
        ]
        lines += ["| column | type | what it is |", "| --- | --- | --- |"]
        for field in table.schema:
            if field.name in ("status", "reason", "detail"):
                continue
            kind = str(field.type).replace("|", "\\|") + (", or empty" if field.nullable else "")
            comment = comments.get((table.row.__name__, field.name), "")
            lines.append(f"| `{field.name}` | {kind} | {_cell(comment)} |")
    return "\n".join(lines) + "\n"


def column_comments() -> dict[tuple[str, str], str]:
    """Return the comment of each column: above its line or behind it; by row type and name."""
    found = {}
    for path in sorted((ROOT / "mimix_core" / "tables").glob("*_tables.py")):
        lines = path.read_text().splitlines()
        for node in ast.parse("\n".join(lines)).body:
            if not isinstance(node, ast.ClassDef):
                continue
            for entry in node.body:
                if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
                    comment = _comment(lines, entry.lineno - 1)
                    found[node.name, entry.target.id] = comment
    return found


def _comment(lines: list[str], number: int) -> str:
    _, mark, behind = lines[number].partition("  # ")
    if mark:
        return behind
    above = []
    for line in reversed(lines[:number]):
        if not line.strip().startswith("# "):
            break
        above.insert(0, line.strip().removeprefix("# "))
    return " ".join(above)


class ErrorText(NamedTuple):
    """What one place in the code says; parts that vary are shown as `...`."""

    what: str
    fix: str
    package: str


def errors_page() -> str:
    """Format the page of all errors that a person may meet."""
    lines = [
        "# Errors",
        "",
        "What MiMix's errors say, by the part of it that says so. Search for words of yours: `...`",
        "stands for what varies. Rows of a table have a reason instead ([reasons.md](reasons.md)).",
        "This page is generated from the code:",
        "",
        f"    {COMMAND}",
    ]
    texts = sorted(set(error_texts()), key=lambda one: (one.package, one.what.lower(), one.fix))
    package = ""
    for text in texts:
        if text.package != package:
            package = text.package
            lines += ["", f"## {package}", "", "| what is wrong | what to do |", "| --- | --- |"]
        lines.append(f"| {_cell(text.what)} | {_cell(text.fix)} |")
    return "\n".join(lines) + "\n"


def error_texts() -> Iterator[ErrorText]:
    """Read the texts of all errors that are raised in the code."""
    for top in CODE:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            package = "/".join(parts[:3] if parts[1] == "stages" else parts[:2])
            if top != "mimix_core":
                package = top
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or _name(node.func) not in ERROR_CLASSES:
                    continue
                keywords = {one.arg: one.value for one in node.keywords}
                what = _text(node.args[0]) if node.args else _text(keywords.get("what"))
                if any(character.isalpha() for character in what.replace("...", "")):
                    yield ErrorText(what, _text(keywords.get("fix")), package)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _text(node: ast.expr | None) -> str:
    """Return the text of an expression; what is only known when it runs is `...`."""
    if node is None:
        return ""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _text(one) if isinstance(one, ast.Constant) else "..." for one in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return "..."


def _cell(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


PAGES = {"tables.md": tables_page, "errors.md": errors_page}


def main() -> None:
    """Write both pages."""
    for name, page in PAGES.items():
        (ROOT / "docs" / name).write_text(page())


if __name__ == "__main__":
    main()
