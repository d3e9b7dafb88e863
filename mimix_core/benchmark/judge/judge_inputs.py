"""Define and load the judge's inputs: systems' videos of the prompts, and the characters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mimix_core.benchmark.systems import System, find_videos
from mimix_core.domain.character import Character
from mimix_core.domain.library import Show, Style
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.yaml_files import read_yaml_file, validation_error
from mimix_core.errors import BadInput


class CastMember(FrozenModel):
    """A character as described to the judge; ``references`` become its reference sheet."""

    name: str
    show: str
    style: Style
    description: str = ""
    references: tuple[FileRef, ...] = ()


class SystemVideos(FrozenModel):
    """One system: prompt id -> its video. ``missing``: prompt id -> why there is no video."""

    name: str
    videos: dict[str, FileRef]
    missing: dict[str, str] = Field(default_factory=dict)


class JudgeInputs(FrozenModel):
    """Everything judged in one run: each prompt's video of each system.

    ``response_cache``: folder of the answers paid for; it does not influence the results.
    ``retries``: id of a rating or comparison -> how often a person wanted another answer.
    """

    unit: Annotated[str, ExcludeFromKey()] = "all"
    prompts: tuple[VideoPrompt, ...] = Field(min_length=1)
    cast: tuple[CastMember, ...]
    systems: tuple[SystemVideos, ...] = Field(min_length=1)
    rubric: FileRef
    response_cache: Annotated[Path, ExcludeFromKey()]
    retries: dict[str, int] = Field(default_factory=dict)

    def with_retries(self, retries: Mapping[str, int], ids: Collection[str]) -> JudgeInputs:
        """Return these inputs with the retries of the ratings or comparisons ``ids``."""
        own = {name: count for name, count in sorted(retries.items()) if name in ids}
        return self.model_copy(update={"retries": own})


class _ShowCast(BaseModel):
    """The parts of a library's show that a judge needs; its episodes are ignored."""

    model_config = ConfigDict(extra="ignore")

    title: str
    style: Style
    characters: tuple[Character, ...]


class _Casts(BaseModel):
    model_config = ConfigDict(extra="ignore")

    shows: tuple[_ShowCast, ...] = Field(min_length=1)


def load_cast(path: Path, file_ref: Callable[[Path], FileRef]) -> tuple[CastMember, ...]:
    """Load the characters of a ``library.yaml``; ``file_ref`` digests a file.

    Its episodes are ignored, because comparing external videos needs none. Raises BadInput for
    invalid entries and missing reference images.
    """
    document, lines = read_yaml_file(path)
    try:
        shows = _Casts.model_validate(document).shows
    except ValidationError as error:
        raise validation_error(path, error, lines) from error
    base = path.resolve().parent
    images = [base / image for show in shows for c in show.characters for image in c.references]
    missing = [str(image) for image in images if not image.is_file()]
    if missing:
        raise BadInput(
            f"no file {', '.join(missing)}",
            where=str(path),
            fix="Correct the characters' references.",
        )
    return tuple(
        build_cast_member(
            character,
            show.title,
            show.style,
            [base / one for one in character.references],
            file_ref,
        )
        for show in shows
        for character in show.characters
    )


def build_cast(
    shows: Sequence[Show], file_ref: Callable[[Path], FileRef]
) -> tuple[CastMember, ...]:
    """Build the cast from a loaded library, whose paths are absolute."""
    return tuple(
        build_cast_member(character, show.title, show.style, character.references, file_ref)
        for show in shows
        for character in show.characters
    )


def build_cast_member(
    character: Character,
    show: str,
    style: Style,
    references: Sequence[Path],
    file_ref: Callable[[Path], FileRef],
) -> CastMember:
    """Build a cast member from a character of the library."""
    return CastMember(
        name=character.name,
        show=show,
        style=style,
        description=character.description,
        references=tuple(file_ref(path) for path in references),
    )


def load_system_videos(
    system: System, prompts: Sequence[VideoPrompt], file_ref: Callable[[Path], FileRef]
) -> SystemVideos:
    """Find and digest the videos of a system by prompt. Raises BadInput."""
    videos = find_videos(system, prompts)
    return SystemVideos(
        name=system.name,
        videos={prompt_id: file_ref(path) for prompt_id, path in videos.items()},
        missing={
            prompt.id: "the system has no video of this prompt"
            for prompt in prompts
            if prompt.id not in videos
        },
    )
