"""What is judged: systems' videos of the prompts, and what the characters look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mimix_core.benchmark.systems import System, find_videos
from mimix_core.domain.library import Character, Show, Style, invalid, read_yaml
from mimix_core.domain.prompts import Prompt
from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.errors import BadInput


class CastMember(FrozenModel):
    """A character as the judge is told of it; ``references`` become its reference sheet."""

    name: str
    show: str
    style: Style
    description: str = ""
    references: tuple[FileRef, ...] = ()


class SystemVideos(FrozenModel):
    """One system: prompt id -> its video. ``absent``: prompt id -> why there is none."""

    name: str
    videos: dict[str, FileRef]
    absent: dict[str, str] = Field(default_factory=dict)


class JudgeInputs(FrozenModel):
    """All that is judged in one run; each prompt is judged for each system.

    ``answers``: the folder of paid answers, of no account to what they say.
    """

    unit: Annotated[str, ExcludeFromKey()] = "all"
    prompts: tuple[Prompt, ...] = Field(min_length=1)
    cast: tuple[CastMember, ...]
    systems: tuple[SystemVideos, ...] = Field(min_length=1)
    rubric: FileRef
    answers: Annotated[Path, ExcludeFromKey()]


class _ShowCast(BaseModel):
    """Of a show what a judge needs; its episodes need not be there."""

    model_config = ConfigDict(extra="ignore")

    title: str
    style: Style
    characters: tuple[Character, ...]


class _Casts(BaseModel):
    model_config = ConfigDict(extra="ignore")

    shows: tuple[_ShowCast, ...] = Field(min_length=1)


def load_cast(path: Path, source: Callable[[Path], FileRef]) -> tuple[CastMember, ...]:
    """The characters of a ``library.yaml``; ``source`` digests a file.

    Its episodes are not looked at: whoever compares others' videos may have none. Raises BadInput
    for what is wrong in it, and for reference images that are not there.
    """
    document, lines = read_yaml(path)
    try:
        shows = _Casts.model_validate(document).shows
    except ValidationError as error:
        raise invalid(path, error, lines) from error
    base = path.resolve().parent
    pictures = [base / one for show in shows for c in show.characters for one in c.references]
    gone = [str(picture) for picture in pictures if not picture.is_file()]
    if gone:
        raise BadInput(
            f"no file {', '.join(gone)}", where=str(path), fix="Correct the characters' references."
        )
    return tuple(
        member(
            character, show.title, show.style, [base / one for one in character.references], source
        )
        for show in shows
        for character in show.characters
    )


def cast_of(shows: Sequence[Show], source: Callable[[Path], FileRef]) -> tuple[CastMember, ...]:
    """The characters of shows of a library that was loaded: their paths are absolute."""
    return tuple(
        member(character, show.title, show.style, character.references, source)
        for show in shows
        for character in show.characters
    )


def member(
    character: Character,
    show: str,
    style: Style,
    references: Sequence[Path],
    source: Callable[[Path], FileRef],
) -> CastMember:
    """A character of the library as the judge is told of it."""
    return CastMember(
        name=character.name,
        show=show,
        style=style,
        description=character.description,
        references=tuple(source(path) for path in references),
    )


def folder_videos(
    system: System, prompts: Sequence[Prompt], source: Callable[[Path], FileRef]
) -> SystemVideos:
    """A system's folder, by prompt; a prompt without a video is absent. Raises BadInput."""
    found = find_videos(system, prompts)
    return SystemVideos(
        name=system.name,
        videos={prompt_id: source(path) for prompt_id, path in found.items()},
        absent={
            prompt.id: "the system has no video of this prompt"
            for prompt in prompts
            if prompt.id not in found
        },
    )
