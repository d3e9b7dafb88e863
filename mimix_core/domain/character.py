"""A character as ``library.yaml`` declares it."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from mimix_core.domain.character_names import validate_character_name
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.text_escaping import find_control_character

# A name goes into file names of 255 bytes at most.
_MAX_NAME_LENGTH = 60
# SAM 3 reads 30 tokens of a noun: a word is one or two.
_MAX_NOUN_LENGTH = 60


def reject_control_characters(texts: Iterable[str], allowed: str = "") -> None:
    """Raise ValueError for a text with a control character other than those ``allowed``."""
    for text in texts:
        found = find_control_character(text, allowed)
        if found is not None:
            raise ValueError(f"contains the control character U+{ord(found):04X}: remove it")


class Character(FrozenModel):
    """A character to be recognized and generated."""

    name: str = Field(
        min_length=1,
        max_length=_MAX_NAME_LENGTH,
        description="The name as written in [Character: <name>] tags.",
    )
    aliases: tuple[str, ...] = Field((), description="Other names scripts and captions may use.")
    description: str = Field(
        "", description="The character's looks in one sentence, for captioner and judge."
    )
    noun: Annotated[str, ExcludeFromKey()] = Field(
        "",
        max_length=_MAX_NOUN_LENGTH,
        description="What the character is in one to three words, such as gray cat or old man: "
        "what the locator sam3 searches for. Empty: cartoon character, or person in live action.",
    )
    references: tuple[Path, ...] = Field((), description="Reference images.")
    voices: Annotated[tuple[Path, ...], ExcludeFromKey()] = Field(
        (),
        description="Recordings in which only the character speaks (audio or video files): "
        "exemplars of its voice.",
    )
    episodes: tuple[str, ...] = Field(
        (),
        description="File names, or glob patterns of file names, of the episodes in which the "
        "character can appear. Empty: all episodes of the show. A character added for some "
        "episodes changes nothing in the others.",
    )

    def can_appear_in(self, file_name: str) -> bool:
        """Return whether the character can appear in the episode with this file name."""
        stem = Path(file_name).stem
        return not self.episodes or any(
            name in (file_name, stem) or fnmatchcase(file_name, name) or fnmatchcase(stem, name)
            for name in self.episodes
        )

    @field_validator("name", "aliases", mode="after")
    @classmethod
    def _fits_the_tag(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        reject_control_characters(names)
        for name in names:
            validate_character_name(name)
        return value

    @field_validator("noun", mode="after")
    @classmethod
    def _is_one_line(cls, value: str) -> str:
        reject_control_characters([value])
        return value.strip()

    @field_validator("description", mode="after")
    @classmethod
    def _is_text(cls, value: str) -> str:
        reject_control_characters([value], allowed="\n\t")
        return value
