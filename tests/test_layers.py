"""Hold the structure: imports point one way, without circles, and no stage imports another."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.paths import ROOT

LAYERS = (
    {"errors"},
    {"tables"},
    {"engine"},
    {"domain"},
    {"settings"},
    {"media", "networks", "html"},
    {"vlm", "project", "characters"},
    {"inbox", "stages", "studio", "wan"},
    {"training"},
    {"benchmark"},
    {"diagnostics"},
)
"""The packages of mimix_core from the bottom up; a package imports only packages below its own."""

LOOSE_MODULES = {"__init__", "errors"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Names of modules, or of things in modules, that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def package_of(name: str) -> str | None:
    """The package of mimix_core that a dotted name lies in, e.g. ``media``."""
    parts = name.split(".")
    return parts[1] if parts[0] == "mimix_core" and len(parts) > 1 else None


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("mimix_core", {"prefect", "tasks", "flows"}), ("tasks", {"flows"})],
)
def test_flows_import_tasks_and_tasks_import_the_core(package: str, forbidden: set[str]) -> None:
    assert len(modules(package)) > 5
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path)
        if name.split(".")[0] in forbidden
    }
    assert wrong == set()


def test_every_package_of_the_core_has_its_layer() -> None:
    entries = [
        path.stem
        for path in (ROOT / "mimix_core").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    loose = {path.stem for path in (ROOT / "mimix_core").glob("*.py")}
    assert loose == LOOSE_MODULES
    assert set(entries) - {"__init__"} == set.union(*LAYERS)


def test_packages_import_only_lower_layers() -> None:
    layer = {package: index for index, packages in enumerate(LAYERS) for package in packages}
    wrong = set()
    for path in modules("mimix_core"):
        own = package_of(dotted(path))
        if own is None:
            continue
        for name in imports(path):
            other = package_of(name)
            if other in layer and other != own and layer[other] >= layer[own]:
                wrong.add(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = {dotted(path): path for path in modules("mimix_core")}
    graph: dict[str, set[str]] = defaultdict(set)
    for name, path in known.items():
        for target in imports(path):
            if target in known and target != name and not name.startswith(f"{target}."):
                graph[name].add(target)
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> list[str]:
        if name in path:
            return [" -> ".join((*path[path.index(name) :], name))]
        if name in done:
            return []
        circles = [c for target in sorted(graph[name]) for c in visit(target, (*path, name))]
        done.add(name)
        return circles

    assert [circle for name in sorted(graph) for circle in visit(name, ())] == []


def test_stages_do_not_import_each_other() -> None:
    wrong = set()
    for path in modules("mimix_core/stages"):
        own = dotted(path).split(".")[2:3]
        for name in imports(path):
            parts = name.split(".")
            if parts[:2] == ["mimix_core", "stages"] and len(parts) > 2 and parts[2:3] != own:
                wrong.add(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == set()


def test_no_package_outside_stages_imports_a_stage() -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("mimix_core")
        for name in imports(path)
        if name.startswith("mimix_core.stages") and package_of(dotted(path)) != "stages"
    }
    assert wrong == set()


def test_the_domain_loads_without_the_orchestrator() -> None:
    code = (
        "import sys\n"
        "from mimix_core.engine import registry\n"
        "registry.pipeline_stages()\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'prefect', 'tasks', 'flows'}, loaded\n"
        "assert not loaded & {'torch', 'diffusers', 'transformers', 'deepspeed'}, "
        "'heavy packages are imported where they are used, not where a stage is named'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_command_line_starts_without_prefect_and_torch() -> None:
    """Prefect reads its settings when it is imported: a command sets them before."""
    code = (
        "import sys\n"
        "import flows.cli\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'prefect', 'torch', 'diffusers', 'transformers'}, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
