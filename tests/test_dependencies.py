"""Hold pyproject.toml to the code: every imported package is declared there."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from tests.paths import ROOT

PACKAGES = ("mimix_core", "tasks", "flows")
ELSEWHERE = {"sam2", "flash-attn"}
"""Installed apart: sam2 without its own requirements (Makefile), FlashAttention for one's GPU."""

PROVIDERS = {"dlib": "dlib-bin"}
"""Modules whose package does not say that it provides them."""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[<>=~! ;]", entry)[0] for entries in lists for entry in entries}
    return {normalized(name) for name in names}


def imported() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                modules = []
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    modules = [node.module]
                for module in modules:
                    top = module.split(".")[0]
                    if top not in sys.stdlib_module_names and top not in PACKAGES:
                        found.setdefault(top, str(path.relative_to(ROOT)))
    return found


def test_every_imported_package_is_declared() -> None:
    distributions = packages_distributions()
    known = declared() | ELSEWHERE
    missing = {}
    for top, path in imported().items():
        if top == "google":  # a namespace shared by google-genai and google-generativeai
            continue
        names = distributions.get(top, [PROVIDERS.get(top, top)])
        if not {normalized(name) for name in names} & known:
            missing[top] = path
    assert missing == {}
