"""Arrows point one way: flows -> tasks -> mimix_core, and stages do not import each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

STAGE_ROOMS = {
    "scenes",
    "overlays",
    "clips",
    "duplicates",
    "transcripts",
    "captions",
    "cutouts",
    "composites",
    "dataset",
    "wan",
    "training",
    "benchmark",
    "report",
}
# Who is in a caption decides who may be pasted; training runs the backbone; samples are made of
# prompts; embeddings read the captions' rows; a comparison of systems looks like the report.
ALLOWED = {
    ("composites", "captions"),
    ("training", "wan"),
    ("benchmark", "report"),
    ("wan", "benchmark"),
    ("wan", "captions"),
    ("report", "training"),
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("mimix_core", {"prefect", "tasks", "flows"}), ("tasks", {"flows"})],
)
def test_the_arrows_point_one_way(package: str, forbidden: set[str]) -> None:
    assert len(modules(package)) > 5
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path)
        if name.split(".")[0] in forbidden
    }
    assert wrong == set()


def test_stages_do_not_import_each_other() -> None:
    wrong = set()
    for path in modules("mimix_core"):
        room = path.relative_to(ROOT / "mimix_core").parts[0].removesuffix(".py")
        if room not in STAGE_ROOMS:
            continue
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "mimix_core" or len(parts) < 2 or parts[1] not in STAGE_ROOMS:
                continue
            if parts[1] != room and (room, parts[1]) not in ALLOWED:
                wrong.add(f"{path.relative_to(ROOT)} imports {name}")
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
