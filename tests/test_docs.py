"""Hold the documentation to the code: generated parts, links, and the glossary."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from pydantic import BaseModel

from mimix_core import tables
from mimix_core.stages.captions.action_script import ActionScriptFile
from mimix_core.stages.cutouts.locate.box_annotations import BoxesFile
from tests.paths import ROOT

DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(DOCS.rglob("*.md")),
]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
CODE_PATH = re.compile(
    r"`((?:docs|mimix_core|tasks|flows|tests|perf|demo|deployments|docker)/[^`\s*<>{}]+)`"
)


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_shows_the_imports_of_today() -> None:
    text = (DOCS / "architecture.md").read_text()
    fix = "run: python docs/architecture_picture.py"
    assert script("architecture_picture").with_picture(text) == text, fix


@pytest.mark.parametrize("name", ["tables.md", "errors.md"])
def test_pages_of_tables_and_errors_are_those_of_the_code(name: str) -> None:
    page: str = script("reference_pages").PAGES[name]()
    assert (DOCS / name).read_text() == page, "run: python docs/reference_pages.py"


def test_every_column_of_a_table_is_on_its_page() -> None:
    page = (DOCS / "tables.md").read_text()
    for table in (value for value in vars(tables).values() if isinstance(value, tables.Table)):
        section = page.split(f"\n## {table.name}\n")[1].split("\n## ")[0]
        listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert [*listed, "status", "reason", "detail"] == table.schema.names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [link for link in LINK.findall(text) if "://" not in link and link[0] != "<"]
    broken = [link for link in links if not (page.parent / link).exists()]
    paths = [path.split(":")[0].rstrip("/.,;") for path in CODE_PATH.findall(text)]
    broken += [path for path in paths if not (ROOT / path).exists() and not made_later(path)]
    assert broken == []


def made_later(path: str) -> bool:
    """Paths that exist only after a command of the repository, or a reader, has made them."""
    made = ("demo/workspace", "demo/miniature", "demo/footage", "demo/models", "perf/results")
    return path.startswith(made) or "brightness" in path  # docs/extending/stage.md writes that


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    listed = {(DOCS / link).resolve() for link in LINK.findall(index) if "://" not in link}
    decisions = DOCS / "decisions"
    pages = {page for page in DOCS.rglob("*.md") if decisions not in page.parents}
    assert pages - listed - {DOCS / "README.md"} == set()


def test_the_glossary_is_sorted_and_says_each_word_once() -> None:
    lines = (DOCS / "glossary.md").read_text().splitlines()
    words = [line.split("|")[1].strip() for line in lines if line.startswith("| ")][2:]
    assert len(words) >= 50
    assert words == sorted(words, key=lambda word: re.sub(r"\W", " ", word.lower()))
    assert len(words) == len(set(words))


@pytest.mark.parametrize(("name", "model"), [("script", ActionScriptFile), ("boxes", BoxesFile)])
def test_schemas_are_those_of_the_code(name: str, model: type[BaseModel]) -> None:
    written = json.loads((DOCS / "schemas" / f"{name}.schema.json").read_text())
    assert written == model.model_json_schema()


def test_the_examples_of_scripts_and_boxes_are_valid() -> None:
    page = (DOCS / "scripts-and-boxes.md").read_text()
    script, boxes = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.S))
    assert len(ActionScriptFile.model_validate(script).actions) == 2
    assert len(BoxesFile.model_validate(boxes).boxes) == 2
