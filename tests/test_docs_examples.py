"""Every command and every settings example of README and docs is one that MiMix takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from flows import cli
from mimix_core.domain.library import Library, Show
from mimix_core.settings import Config
from mimix_core.stages.captions.action_script import ActionScriptFile
from mimix_core.stages.cutouts.locate.box_annotations import BoxesFile
from tests.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^(?: {4}.*)?\n)*^ {4}.*\n", re.MULTILINE)
INLINE = re.compile(r"`((?:mimix|make) [^`]+)`")
MAKE_TARGETS = re.compile(r"^([a-z][a-z0-9-]*):", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A code block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def code_blocks(page: Path) -> Iterator[Example]:
    text = page.read_text()
    for match in FENCED.finditer(text):
        yield Example(page, line_of(text, match.start()), match[1], match[2])
    plain = FENCED.sub(lambda match: "\n" * match[0].count("\n"), text)
    for match in INDENTED.finditer(plain):
        body = "\n".join(line[4:] for line in match[0].splitlines())
        yield Example(page, line_of(plain, match.end()), "", body)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


BLOCKS = [block for page in PAGES for block in code_blocks(page)]


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the words of each command line of MiMix and make."""
    for block in BLOCKS:
        for line in block.text.replace("\\\n", " ").splitlines():
            words = line.strip().removeprefix("$ ")
            if re.match(r"(\S+/)?mimix \S|make [a-z]", words):
                yield str(block), split_command(words)
    for page in PAGES:
        text = page.read_text()
        for match in INLINE.finditer(text):
            place = f"{page.relative_to(ROOT)}:{line_of(text, match.start())}"
            yield place, split_command(" ".join(match[1].split()))


def split_command(line: str) -> list[str]:
    """Split a command line up to its comment, a pipe, or the next command."""
    words = shlex.split(line.replace("'", ""), comments=True)
    ends = [k for k, word in enumerate(words) if word in ("|", "&&", "&", ";", ">")]
    return words[: min(ends, default=len(words))]


COMMANDS = list(dict.fromkeys((place, tuple(words)) for place, words in command_lines()))


def test_there_are_examples() -> None:
    assert len(COMMANDS) > 100
    assert len([block for block in BLOCKS if block.language == "yaml"]) > 10


def test_every_command_exists_with_its_options() -> None:
    targets = set(MAKE_TARGETS.findall((ROOT / "Makefile").read_text()))
    root = typer.main.get_command(cli.app)
    wrong = []
    for place, (program, *words) in COMMANDS:
        if program == "make":
            problems = [word for word in words if re.match("[a-z]", word) and word not in targets]
        else:
            problems = unknown_words(root, words)
        if problems:
            wrong.append(f"{place}: {' '.join([program, *words])}: {problems}")
    assert wrong == []


def unknown_words(command: Any, words: list[str]) -> list[str]:
    """Return the words that are neither a command nor an option of the command before them."""
    words = list(words)
    while hasattr(command, "commands"):
        if not words or not re.match("[a-z]", words[0]):
            break  # the group itself is named, or a placeholder stands for its commands
        names = words.pop(0).split("|")
        found = [command.commands.get(name) for name in names]
        missing = [name for name, one in zip(names, found, strict=True) if one is None]
        if missing:
            return missing
        command = found[0]
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    given = [word.strip("[],.").split("=")[0] for word in words if word.lstrip("[").startswith("-")]
    return [name for name in given if name not in {*options, "--help", "-"}]


BEGINS_LIKE_YAML = re.compile(r"[a-z_]+:( |\n|$)")
YAML_BLOCKS = [
    block
    for block in BLOCKS
    if block.language == "yaml" or (not block.language and BEGINS_LIKE_YAML.match(block.text))
]


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=str)
def test_every_settings_example_is_valid(block: Example) -> None:
    """Each is a part of a settings file, a library or one of its shows, a script, or boxes."""
    value: Any = yaml.safe_load(block.text)
    if isinstance(value, list):
        for show in value:
            Show.model_validate(show)
    elif set(value) <= set(Config.model_fields):
        Config.model_validate({"library": "library.yaml", **value})
    elif "shows" in value:
        Library.model_validate(value)
    elif "episodes" in value:
        Show.model_validate({"id": "show", **value})
    else:
        (ActionScriptFile if "actions" in value else BoxesFile).model_validate(value)
