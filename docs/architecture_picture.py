"""Draw the packages and their imports into docs/architecture.md.

``python docs/architecture_picture.py`` rewrites the picture in the page.

The picture is made from the import statements in the code, so it cannot drift from it: a test fails
when the page no longer shows what the code does.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- picture: begin -->\n", "<!-- picture: end -->\n"


def package_of(name: str) -> str | None:
    """The package that a dotted module name belongs to: flows, tasks, or one of mimix_core."""
    parts = name.split(".")
    if parts[0] in ("flows", "tasks"):
        return parts[0]
    return parts[1] if parts[0] == "mimix_core" and len(parts) > 1 else None


def arrows() -> dict[str, set[str]]:
    """For each package, the packages that its modules import."""
    found: dict[str, set[str]] = defaultdict(set)
    for top in ("flows", "tasks", "mimix_core"):
        for path in sorted((ROOT / top).rglob("*.py")):
            own = package_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
            if own is None or own == "__init__":
                continue
            found[own] |= set()
            for node in ast.walk(ast.parse(path.read_text())):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                for name in names:
                    other = package_of(name)
                    if other not in (None, own, "__version__"):
                        found[own].add(str(other))
    return found


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without arrows that follow from others (its transitive reduction)."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        pending = list(graph.get(start, ()))
        while pending:
            node = pending.pop()
            if node not in seen:
                seen.add(node)
                pending += graph.get(node, ())
        return seen

    return {
        node: {
            target
            for target in targets
            if not any(target in reachable(other) for other in targets - {target})
        }
        for node, targets in graph.items()
    }


def levels(graph: dict[str, set[str]]) -> dict[str, int]:
    """The height of each package: one more than the highest package it imports."""
    found: dict[str, int] = {}

    def level(node: str) -> int:
        if node not in found:
            found[node] = 1 + max((level(target) for target in graph.get(node, ())), default=-1)
        return found[node]

    for node in graph:
        level(node)
    return found


def purpose(package: str) -> str:
    """The first line of a package's docstring."""
    folder = ROOT / package if package in ("flows", "tasks") else ROOT / "mimix_core" / package
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]


def picture() -> str:
    """The picture as Markdown: a Mermaid graph, and one line a package, top first."""
    graph = arrows()
    height = levels(graph)
    order = sorted(graph, key=lambda node: (-height[node], node))
    lines = ["```mermaid", "flowchart TD"]
    for node, targets in sorted(reduced(graph).items(), key=lambda item: order.index(item[0])):
        lines += [f"    {node} --> {target}" for target in sorted(targets)]
    lines += ["```", "", "| package | purpose |", "| --- | --- |"]
    for node in order:
        name = node if node in ("flows", "tasks") else f"mimix_core.{node}"
        lines.append(f"| `{name}` | {purpose(node)} |")
    return "\n".join(lines) + "\n"


def with_picture(text: str) -> str:
    """The page's text with the picture put between its two marks."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{picture()}{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(with_picture(PAGE.read_text()))
