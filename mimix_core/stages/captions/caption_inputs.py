"""The inputs of captioners: the show, its characters, and the episode's clips and dialogue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.tables import TranscriptRow


class CharacterProfile(FrozenModel):
    """A character as described to the model. ``references``: reference images."""

    name: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    references: tuple[FileRef, ...] = ()


class ShowProfile(FrozenModel):
    """A show and its characters as described to the model."""

    id: str
    title: str
    style: Style
    characters: tuple[CharacterProfile, ...]

    def roster(self) -> tuple[str, ...]:
        """Return the names of all characters."""
        return tuple(character.name for character in self.characters)


class CaptionInputs(FrozenModel):
    """One episode's clips, and everything known about what happens in them.

    ``roster``: the show's characters. ``aliases``: alias -> name in the roster. ``overrides``:
    clip_id -> caption written by hand, or ``""`` to leave the clip out. ``imported``: the caption
    that came with a clip made elsewhere. ``show``, ``prompt`` and
    ``response_cache`` (the show's description, the prompt file, the folder of paid responses) are
    for backend vlm alone: the captions of a script do not depend on them. ``captioner_source``:
    the source file of a captioner from outside MiMix. ``speakers``: who speaks each line of the
    transcripts, if the settings ask for it. ``retries``: clip_id -> how often a person
    wanted another response of the model.
    """

    unit: Annotated[str, ExcludeFromKey()]
    style: Style
    roster: tuple[str, ...]
    aliases: dict[str, str] = Field(default_factory=dict)
    clips: TableRef
    transcripts: TableRef
    script: FileRef | None = None
    plot: str = ""
    overrides: dict[str, str] = Field(default_factory=dict)
    tokenizer: FileRef | None = None
    captioner_source: FileRef | None = None
    show: ShowProfile | None = None
    prompt: FileRef | None = None
    response_cache: Annotated[Path | None, ExcludeFromKey()] = None
    retries: dict[str, int] = Field(default_factory=dict)
    imported: Annotated[str, OmitDefault()] = ""
    speakers: Annotated[TableRef | None, OmitDefault()] = None


TimedLine = tuple[int, int, str]
"""Start and end in milliseconds of the clip's play, and the text."""


class ClipDialogue(FrozenModel):
    """The dialogue of a clip. ``available``: subtitles or speech recognition existed for it.

    ``text``: what is said. ``lines``: the same with times, and with who says it where that is known
    and the line does not say so itself.
    """

    available: bool = False
    text: str = ""
    lines: tuple[TimedLine, ...] = ()

    @property
    def spoken_text(self) -> str:
        """Return what is said, with who says it where that is known."""
        return "\n".join(text for _, _, text in self.lines)


def load_dialogues(ref: TableRef, speakers: TableRef | None = None) -> dict[str, ClipDialogue]:
    """Load the dialogue by clip_id, for clips with a usable transcript.

    ``speakers``: the table that says who speaks each line.
    """
    dialogues = {
        row["clip_id"]: dialogue_from_row(row)
        for row in tables.usable(tables.read(ref.path, tables.TRANSCRIPTS))
    }
    if speakers is None:
        return dialogues
    names = {
        (row["clip_id"], row["start_ms"], row["end_ms"], row["text"]): row["speaker"]
        for row in tables.usable(tables.read(speakers.path, tables.SPEAKERS))
        if row["source"] != "text"
    }
    return {clip: _with_speakers(clip, one, names) for clip, one in dialogues.items()}


def _with_speakers(
    clip: str, dialogue: ClipDialogue, names: Mapping[tuple[str, int, int, str], str]
) -> ClipDialogue:
    lines = []
    for start, end, text in dialogue.lines:
        speaker = names.get((clip, start, end, text), "")
        lines.append((start, end, f"{speaker} says: {text}" if speaker else text))
    return dialogue.model_copy(update={"lines": tuple(lines)})


def dialogue_from_row(row: TranscriptRow) -> ClipDialogue:
    """Return the dialogue in a row of the transcripts table."""
    return ClipDialogue(
        available=row["backend"] != "none",
        text=row["text"],
        lines=tuple((line["start_ms"], line["end_ms"], line["text"]) for line in row["lines"]),
    )
