"""YAML of strangers: what would take hours or gigabytes is one error with its line, at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from mimix_core.engine.yaml_files import MAX_PROBLEMS, read_yaml_file
from mimix_core.errors import BadInput
from mimix_core.settings import load_config
from tests.paths import ROOT


def aliases_of_aliases(count: int, width: int = 9) -> str:
    """Return lists that each repeat the list before ``width`` times."""
    lines = ["shows:", "  - &a0 [lol]"]
    lines += [f"  - &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, count)]
    return "\n".join(lines)


def merges_of_merges(count: int) -> str:
    lines = ["x0: &a0 {k: 1}"]
    lines += [
        f"x{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}" for n in range(1, count)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (aliases_of_aliases(12), 7, "repeat more than 100,000 values"),
        (merges_of_merges(12), None, "repeat more than 100,000 values"),
        ("a: &a [1]\nb: &b [*a, *b]\n", 2, "*b is used inside of &b"),
        ("&a a: 1\nb: &b {c: {d: *b}}\n", 2, "*b is used inside of &b"),
        ("a: 1\nb: " + 100_000 * "[", 2, "nested more than 64 levels"),
        ("a:\n  " + 100_000 * "- ", 2, "nested more than 64 levels"),
        ("a: " + 100_000 * "{a: ", 1, "nested more than 64 levels"),
        ("a: " + 70 * "[" + 70 * "]", 1, "nested more than 64 levels"),
        (f"a: 1\nb: {'9' * 5000}\n", 2, "a number of 5,000 characters"),
        (f"a: 1\nb: [-{'1' * 5000}]\n", 2, "a number of 5,001 characters"),
        (f"a: 0x{'f' * 50_000}\n", 1, "a number of"),
        (f"a: 1{':59' * 5000}\n", 1, "a number of"),
        (f"a: 1.{'5' * 5000}\n", 1, "a number of"),
        (f"{'7' * 900}: 1\n", 1, "a number of"),
        ("a: 1\nb: !!int 'x'\n", 2, "'x'"),
        ("a: 1\nb: 2001-19-45\n", 2, "2001-19-45"),
        ("a: 1\n? [b]\n: 2\n", 2, "a key is a list or a mapping"),
        ("a: 1\n? {b: c}\n: 2\n", 2, "a key is a list or a mapping"),
        ("a: !!python/object/apply:os.system ['true']\n", 1, "python/object"),
        ("a: 1\nb: *nothing\n", 2, "no &nothing before it"),
        ("episodes:\n  - path: *.mp4\n", 2, "not readable as YAML"),
        ("a: 1\nb: [\n", None, "not readable as YAML"),
        ("a: 1\nb: \x07\n", None, "not readable as YAML"),
        ("a: 1\nab: 2\na: 3\n", 1, "duplicate key 'a', again in line 3"),
        (f"{'k' * 900}: 1\n{'k' * 900}: 3\n", 1, "duplicate key 'kkk"),
    ],
)
def test_hostile_documents_are_one_short_error_with_its_line(
    tmp_path: Path, text: str, line: int | None, words: str
) -> None:
    path = tmp_path / "library.yaml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(BadInput) as caught:
        read_yaml_file(path)
    message = str(caught.value)
    assert words in message
    assert str(path) in message and len(message) < 600
    if line is not None:
        assert f"line {line}:" in message
    # Far above what it takes, far below what loading the document takes.
    assert time.process_time() - start < 20


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "library.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(BadInput, match=r"line 2: .*0xff is not UTF-8"):
        read_yaml_file(path)
    with pytest.raises(BadInput, match="not readable as YAML: Is a directory"):
        read_yaml_file(tmp_path)


def test_aliases_and_merges_of_a_normal_size_work(tmp_path: Path) -> None:
    path = tmp_path / "library.yaml"
    text = "a: &a {x: 1, y: [2, 3]}\nb: {<<: *a, x: 4}\nc: [*a, *a]\n"
    path.write_text(text)
    document, lines = read_yaml_file(path)
    assert document == yaml.safe_load(text)
    assert lines[("a", "y", 1)] == 1
    assert lines[("b", "x")] == 2


@pytest.mark.parametrize(
    "path",
    sorted(
        path
        for folder in ("demo", "deployments", "docker", "mimix_core", ".github")
        for path in (ROOT / folder).rglob("*.y*ml")
    ),
    ids=lambda path: path.name,
)
def test_every_file_of_the_project_reads_as_pyyaml_reads_it(path: Path) -> None:
    text = path.read_text()
    document, lines = read_yaml_file(path)
    assert document == yaml.load(text, Loader=yaml.SafeLoader)
    for key, line in lines.items():
        if key and isinstance(key[-1], str) and "<<" not in key:
            assert key[-1] in text.splitlines()[line - 1]


def test_thousands_of_problems_are_not_listed_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "mimix.yaml"
    path.write_text("library: x\n" + "".join(f"unknown{n}: 1\n" for n in range(5000)))
    with pytest.raises(BadInput) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.count("unknown key") == MAX_PROBLEMS
    assert "and 4,980 more" in message


@pytest.mark.parametrize(
    "text",
    [
        "composites: {ratio: .nan}",
        'composites: {ratio: "nan"}',
        "composites: {ratio: .inf}",
        "lora: {learning_rate: .nan}",
        "lora: {learning_rate: '.nan'}",
        "lora: {learning_rate: nan}",
        "lora: {epochs: .inf}",
        "run: {memory_limit_gb: .inf}",
        "run: {timeout_minutes: -.inf}",
        "scenes: {min_seconds: 1e999}",
    ],
)
def test_settings_are_finite_numbers(tmp_path: Path, text: str) -> None:
    (tmp_path / "library.yaml").write_text("shows: []\n")
    path = tmp_path / "mimix.yaml"
    path.write_text(f"library: library.yaml\n{text}\n")
    with pytest.raises(BadInput, match="line 2"):
        load_config(path)
