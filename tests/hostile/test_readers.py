"""Dangerous functions are called in the one place that guards them: read from the code itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.paths import ROOT

CALLS: dict[str, set[str]] = {
    "av.open": {
        "mimix_core/media/container.py",  # reads: protocols and formats are limited
        "mimix_core/media/audio.py",  # writes
        "mimix_core/media/encode.py",  # writes
    },
    "PillowImage.open": {"mimix_core/media/images.py"},
    "Image.open": {
        "mimix_core/stages/report/thumbnails.py",  # pictures that MiMix wrote
        "mimix_core/vlm/prices.py",  # JPEGs that MiMix encoded
    },
    "cv2.imread": set(),
    "cv2.VideoCapture": set(),
    "yaml.load": set(),
    "yaml.unsafe_load": set(),
    "yaml.full_load": set(),
    "pickle.load": set(),
    "pickle.loads": set(),
    "marshal.loads": set(),
    "eval": set(),
    "exec": set(),
    "os.system": set(),
    "os.popen": set(),
    "np.load": set(),
    "jinja2.Environment": set(),
    "Environment": {"mimix_core/html/page_renderer.py"},  # autoescape
    "tarfile.open": set(),
    "shutil.unpack_archive": set(),
    "tempfile.mktemp": set(),
    "xml.etree.ElementTree.parse": set(),
}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    for package in ("mimix_core", "tasks", "flows"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield str(path.relative_to(ROOT)), ast.unparse(node.func), node


@pytest.fixture(scope="module")
def found() -> list[tuple[str, str, ast.Call]]:
    return list(calls())


@pytest.mark.parametrize("function", list(CALLS))
def test_a_dangerous_function_is_called_only_where_it_is_guarded(
    found: list[tuple[str, str, ast.Call]], function: str
) -> None:
    assert {path for path, name, _ in found if name == function} == CALLS[function]


def test_torch_loads_weights_only(found: list[tuple[str, str, ast.Call]]) -> None:
    loads = [(path, call) for path, name, call in found if name == "torch.load"]
    assert loads
    for path, call in loads:
        options = {one.arg: ast.unparse(one.value) for one in call.keywords}
        assert options.get("weights_only") == "True", path


def test_videos_are_written_where_they_are_not_read(
    found: list[tuple[str, str, ast.Call]],
) -> None:
    for path, name, call in found:
        if name == "av.open" and path != "mimix_core/media/container.py":
            assert ast.unparse(call.args[1]) == "'w'", path


def test_no_model_code_comes_with_a_model(found: list[tuple[str, str, ast.Call]]) -> None:
    for path, name, call in found:
        options = {one.arg: ast.unparse(one.value) for one in call.keywords}
        assert options.get("trust_remote_code", "False") == "False", (path, name)
