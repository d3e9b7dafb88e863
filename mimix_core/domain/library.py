"""The library: shows, their characters and their episodes, as ``library.yaml`` states them."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from mimix_core.domain.subtitle_files import subtitles_beside
from mimix_core.engine.artifacts import Frozen
from mimix_core.errors import BadInput


class Style(StrEnum):
    """The two worlds of the paper; the tag reads ``[scene-style:<style>]``."""

    CARTOON = "cartoon"
    REALISTIC = "realistic"

    @property
    def opposite(self) -> Style:
        return Style.REALISTIC if self is Style.CARTOON else Style.CARTOON


# Ids and names of clips, characters and composites go into file names of 255 bytes at most.
_LONGEST_ID = 40
_LONGEST_NAME = 60


class Character(Frozen):
    """Someone who is to be recognised and generated."""

    name: str = Field(
        min_length=1, max_length=_LONGEST_NAME, description="As it stands in [Character: <name>]."
    )
    aliases: tuple[str, ...] = Field((), description="Other names scripts and captions may use.")
    description: str = Field("", description="Looks, in a sentence; given to captioner and judge.")
    references: tuple[Path, ...] = Field((), description="Reference images.")

    @field_validator("name", "aliases", mode="after")
    @classmethod
    def _fits_the_tag(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in [value] if isinstance(value, str) else value:
            if any(mark in name for mark in "[],:\n") or name != name.strip():
                raise ValueError(f"{name!r} cannot stand in a [Character: ...] tag")
        return value


class Episode(Frozen):
    """One video file, or a glob of them, and what is known about it."""

    path: Path = Field(description="A video file, or a glob of files.")
    subtitles: Path | None = Field(
        None, description="Its .srt, .vtt or .ass; empty: what bears its name beside it."
    )
    script: Path | None = Field(None, description="Time-coded action script (YAML).")
    boxes: Path | None = Field(None, description="Hand-given boxes of characters (YAML).")
    plot: str = Field("", description="A sentence or a paragraph.")


class Show(Frozen):
    """A series or a film: one style, one cast."""

    id: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=_LONGEST_ID, description="Short name, in ids."
    )
    title: str = Field(min_length=1)
    style: Style
    characters: tuple[Character, ...] = Field(min_length=1)
    episodes: tuple[Episode, ...] = Field(min_length=1)

    def roster(self) -> tuple[str, ...]:
        return tuple(character.name for character in self.characters)

    def aliases(self) -> dict[str, str]:
        """Alias -> the name that stands in the tags."""
        return {alias: c.name for c in self.characters for alias in c.aliases}


class Library(Frozen):
    """All shows. Character names are unique over the whole library: the tag is the identity."""

    shows: tuple[Show, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique_names(self) -> Library:
        ids = [show.id for show in self.shows]
        for show_id in ids:
            if ids.count(show_id) > 1:
                raise ValueError(f"two shows have the id {show_id!r}")
        owners: dict[str, str] = {}
        for show in self.shows:
            for character in show.characters:
                for name in (character.name, *character.aliases):
                    owner = f"{character.name} of {show.id}"
                    if name.casefold() in owners:
                        raise ValueError(
                            f"the name {name!r} belongs to both {owners[name.casefold()]} "
                            f"and {owner}"
                        )
                    owners[name.casefold()] = owner
        return self

    def show(self, show_id: str) -> Show:
        return next(show for show in self.shows if show.id == show_id)

    def characters(self) -> tuple[Character, ...]:
        return tuple(character for show in self.shows for character in show.characters)


def load_library(path: Path, *, language: str = "") -> Library:
    """Read and check ``library.yaml``; paths come back absolute, globs as single episodes.

    An episode without stated subtitles gets those that bear its name beside it, if there are any;
    of several those in ``language``. Raises BadInput with one message that names every problem
    found, each with its line and key.
    """
    document, lines = read_yaml(path)
    try:
        library = Library.model_validate(document)
    except ValidationError as error:
        raise invalid(path, error, lines) from error
    return _resolved(library, path.resolve().parent, path, lines, language)


def _resolved(library: Library, base: Path, source: Path, lines: Lines, language: str) -> Library:
    problems: list[str] = []

    def existing(path: Path, *key: str | int) -> Path:
        full = base / path
        if not full.is_file():
            problems.append(f"{_place(source, lines, key)}: no file {full}")
        return full

    shows = []
    for s, show in enumerate(library.shows):
        characters = tuple(
            character.model_copy(
                update={
                    "references": tuple(
                        existing(p, "shows", s, "characters", c, "references", r)
                        for r, p in enumerate(character.references)
                    )
                }
            )
            for c, character in enumerate(show.characters)
        )
        episodes: list[Episode] = []
        for e, episode in enumerate(show.episodes):
            key = ("shows", s, "episodes", e)
            beside = {
                name: existing(value, *key, name)
                for name in ("subtitles", "script", "boxes")
                if (value := getattr(episode, name)) is not None
            }
            for video in _videos(base, episode.path):
                if video is None:
                    problems.append(
                        f"{_place(source, lines, (*key, 'path'))}: no file {base / episode.path}"
                    )
                else:
                    found = {"subtitles": subtitles_beside(video, language), **beside}
                    episodes.append(episode.model_copy(update={"path": video, **found}))
        paths = [episode.path for episode in episodes]
        for video in sorted({p for p in paths if paths.count(p) > 1}):
            problems.append(f"{source}: show {show.id}: {video} is listed twice")
        shows.append(
            show.model_copy(update={"characters": characters, "episodes": tuple(episodes)})
        )
    if problems:
        raise BadInput("; ".join(problems), fix="Correct the paths or put the files there.")
    return Library(shows=tuple(shows))


def is_glob(path: Path) -> bool:
    """Whether an episode's path stands for all the files that fit it."""
    return any(mark in os.fspath(path) for mark in "*?")


def stated(path: Path) -> Library:
    """``library.yaml`` as it stands: paths relative to it, globs unresolved. Raises BadInput."""
    document, lines = read_yaml(path)
    try:
        return Library.model_validate(document)
    except ValidationError as error:
        raise invalid(path, error, lines) from error


def named_videos(path: Path) -> frozenset[Path]:
    """The videos that ``library.yaml`` names one by one, absolute; all others came of globs."""
    base = path.resolve().parent
    paths = (episode.path for show in stated(path).shows for episode in show.episodes)
    return frozenset(base / named for named in paths if not is_glob(named))


BESIDE_VIDEOS = (".srt", ".vtt", ".ass", ".ssa", ".yaml", ".yml")
"""Files of these kinds stand beside videos and are none: no glob takes them for episodes."""


def episode_files(base: Path, pattern: Path) -> list[Path]:
    """The files an episode's path stands for, be they readable or not; sorted, may be none.

    As a shell's, a glob leaves out names that start with a dot.
    """
    if not is_glob(pattern):
        return [base / pattern] if (base / pattern).is_file() else []
    root = Path(pattern.anchor) if pattern.is_absolute() else base
    found = sorted(root.glob(os.fspath(pattern.relative_to(pattern.anchor))))
    return [
        path
        for path in found
        if not path.name.startswith(".") and path.suffix.lower() not in BESIDE_VIDEOS
    ]


def _videos(base: Path, pattern: Path) -> list[Path | None]:
    return [*episode_files(base, pattern)] or [None]


Lines = dict[tuple[str | int, ...], int]


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """A YAML document with plain types, and the line (from 1) of each of its keys.

    Raises BadInput when the file is missing, is no YAML, or states a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise BadInput("no such file", where=str(path), fix="Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise BadInput(f"not readable as YAML: {error}", where=str(path)) from error
    lines: Lines = {}

    def walk(node: yaml.Node, key: tuple[str | int, ...]) -> None:
        lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            names = [child.value for child, _ in node.value]
            for child, value in node.value:
                line = child.start_mark.line + 1
                if names.count(child.value) > 1:
                    raise BadInput(
                        f"the key {child.value!r} stands twice", where=f"{path}, line {line}"
                    )
                lines[(*key, child.value)] = line
                walk(value, (*key, child.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                walk(value, (*key, index))

    if node is not None:
        walk(node, ())
    return document, lines


def invalid(path: Path, error: ValidationError, lines: Lines) -> BadInput:
    """One BadInput for all that pydantic found wrong in the YAML file ``path``."""
    found = []
    for problem in error.errors():
        key = tuple(problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key"
        elif problem["type"] == "missing":
            message = "this key is missing"
        found.append(f"{_place(path, lines, key)}: {message}")
    return BadInput("; ".join(found), fix="Correct the file and run again.")


def _place(path: Path, lines: Lines, key: tuple[str | int, ...]) -> str:
    """``file, line 12, key shows.0.style``: the line of the key or of its nearest parent."""
    line = next((lines[key[:n]] for n in range(len(key), -1, -1) if key[:n] in lines), 1)
    label = ".".join(str(part) for part in key)
    return f"{path}, line {line}" + (f", key {label}" if label else "")
