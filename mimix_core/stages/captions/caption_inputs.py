"""What captioners are told: the show, its characters, the episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import FileRef, Frozen, TableRef
from mimix_core.engine.cache_key import Immaterial
from mimix_core.tables import Row


class CharacterFacts(Frozen):
    """A character as a stranger needs to know it. ``references``: pictures of it."""

    name: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    references: tuple[FileRef, ...] = ()


class ShowFacts(Frozen):
    """A show as a stranger needs to know it."""

    id: str
    title: str
    style: Style
    characters: tuple[CharacterFacts, ...]

    def roster(self) -> tuple[str, ...]:
        return tuple(character.name for character in self.characters)


class CaptionInputs(Frozen):
    """One episode's clips, and all that is known about what happens in them.

    ``roster``: the show's characters. ``aliases``: other name -> name of the roster. ``hand``:
    clip_id -> the caption that a person wrote in its stead, or nothing to leave the clip out.
    ``show``, ``prompt`` and ``answers`` are for backend vlm alone, so that a script's captions do
    not depend on them: what is told of the show, the prompt file, and the folder of paid answers.
    """

    unit: Annotated[str, Immaterial()]
    show_title: str
    style: Style
    roster: tuple[str, ...]
    aliases: dict[str, str] = Field(default_factory=dict)
    clips: TableRef
    transcripts: TableRef
    script: FileRef | None = None
    plot: str = ""
    hand: dict[str, str] = Field(default_factory=dict)
    tokenizer: FileRef | None = None
    show: ShowFacts | None = None
    prompt: FileRef | None = None
    answers: Annotated[Path | None, Immaterial()] = None


Line = tuple[int, int, str]
"""Start and end in milliseconds of the clip's play, and what is said."""


class Dialogue(Frozen):
    """What is said in a clip. ``known``: whether any subtitles or speech recognition were there."""

    known: bool = False
    text: str = ""
    lines: tuple[Line, ...] = ()


def dialogues(ref: TableRef) -> dict[str, Dialogue]:
    """Dialogue by clip_id, of the clips whose transcript is usable."""
    return {
        row["clip_id"]: dialogue(row)
        for row in tables.usable(tables.read(ref.path, tables.TRANSCRIPTS))
    }


def dialogue(row: Mapping[str, object]) -> Dialogue:
    """The dialogue in a row of the transcripts table."""
    return Dialogue.model_validate(
        {
            "known": row["backend"] != "none",
            "text": row["text"],
            "lines": [(x["start_ms"], x["end_ms"], x["text"]) for x in _lines(row)],
        }
    )


def _lines(row: Mapping[str, object]) -> Iterable[Row]:
    lines = row["lines"]
    assert isinstance(lines, list)
    return lines
