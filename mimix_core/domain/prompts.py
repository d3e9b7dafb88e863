"""Prompts of generated videos: typed rows, rendered with the caption grammar.

Prompts have the form of the captions that the model was trained on (paper, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from mimix_core.domain.caption_grammar import (
    Caption,
    CaptionVariant,
    CharacterAction,
    ContextText,
    render_caption,
)
from mimix_core.domain.library import Library, Style
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.yaml_files import (
    KeyPath,
    LineNumbers,
    find_line,
    read_yaml_file,
    validation_error,
)
from mimix_core.errors import BadInput

PromptCategory = Literal["single", "inter-style", "intra-style", "inter-series", "intra-series"]

MAX_ID_LENGTH = 200
"""A file system has names of 255 bytes, and a video has other parts in its name while written."""


class CharacterOrigin(FrozenModel):
    """The show and the style that a character comes from."""

    name: str = Field(min_length=1)
    show: str = Field(min_length=1, description="The id of the show.")
    style: Style = Field(description="The show's style; a prompt's scene may have the other.")


def character_origins(library: Library) -> tuple[CharacterOrigin, ...]:
    """Return the origin of every character of a library."""
    return tuple(
        CharacterOrigin(name=character.name, show=show.id, style=show.style)
        for show in library.shows
        for character in show.characters
    )


def prompt_categories(origins: Sequence[CharacterOrigin]) -> tuple[PromptCategory, ...]:
    """Return all categories of the paper that a prompt of these characters belongs to.

    Categories overlap: characters of two styles are also of two series.
    """
    if len(origins) == 1:
        return ("single",)
    styles, shows = {origin.style for origin in origins}, {origin.show for origin in origins}
    return (
        "inter-style" if len(styles) > 1 else "intra-style",
        "inter-series" if len(shows) > 1 else "intra-series",
    )


class VideoPrompt(FrozenModel):
    """The prompt of one video to generate."""

    id: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        max_length=MAX_ID_LENGTH,
        description="Name of the video file.",
    )
    category: PromptCategory = Field(
        description="The number of characters, and whether they share a show or a style."
    )
    characters: tuple[str, ...] = Field(min_length=1, max_length=3)
    actions: tuple[CharacterAction, ...] = Field(min_length=1)
    setting: ContextText = ""
    style: Style = Field(description="Style of the scene.")

    @model_validator(mode="after")
    def _consistent(self) -> VideoPrompt:
        if (self.category == "single") != (len(self.characters) == 1):
            raise ValueError(f"category {self.category} with {len(self.characters)} characters")
        acting = {action.name for action in self.actions}
        if acting != set(self.characters) or len(acting) != len(self.characters):
            raise ValueError(
                f"characters are {', '.join(self.characters)}, but {', '.join(sorted(acting))} act"
            )
        return self

    def render(self, variant: CaptionVariant = CaptionVariant.BOTH) -> str:
        """Render the text that the model reads; variants other than BOTH are Table 2's arms."""
        caption = Caption(actions=self.actions, context=self.setting, style=self.style)
        return render_caption(caption, variant)


class PromptFile(FrozenModel):
    """A YAML file of prompts."""

    version: str = Field(
        "", description="Name of the prompt set; scores of different sets are never compared."
    )
    cast: tuple[CharacterOrigin, ...] = Field(
        (), description="The origins of all characters; may be empty."
    )
    prompts: tuple[VideoPrompt, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> PromptFile:
        """Compare the prompts with each other and with the cast, each problem at its own key."""
        problems = [*self._find_duplicates(), *self._find_cast_problems()]
        if problems:
            raise ValidationError.from_exception_data(
                type(self).__name__,
                [
                    {
                        "type": "value_error",
                        "loc": key,
                        "input": None,
                        "ctx": {"error": ValueError(problem)},
                    }
                    for key, problem in problems
                ],
            )
        return self

    def _find_duplicates(self) -> Iterator[tuple[KeyPath, str]]:
        """Yield each id and each character of the cast that is there already, with its key."""
        prompts = [prompt.id for prompt in self.prompts]
        cast = [origin.name for origin in self.cast]
        for what, key, name, values in (
            ("id", "prompts", "id", prompts),
            ("character", "cast", "name", cast),
        ):
            seen = set()
            for index, value in enumerate(values):
                if value in seen:
                    yield (key, index, name), f"duplicate {what} {value!r}"
                seen.add(value)

    def _find_cast_problems(self) -> Iterator[tuple[KeyPath, str]]:
        """Yield each prompt with characters or a category that the cast does not have."""
        origins = {origin.name: origin for origin in self.cast}
        for index, prompt in enumerate(self.prompts if self.cast else ()):
            unknown = [name for name in prompt.characters if name not in origins]
            if unknown:
                problem = f"{prompt.id}: {unknown[0]!r} is not in the cast"
                yield ("prompts", index, "characters"), problem
                continue
            categories = prompt_categories([origins[name] for name in prompt.characters])
            if prompt.category not in categories:
                problem = f"{prompt.id} is {' and '.join(categories)}, not {prompt.category}"
                yield ("prompts", index, "category"), problem


def read_prompt_file(path: Path) -> PromptFile:
    """Read a prompt file without checking its characters against a library. Raises BadInput."""
    return _read_with_lines(path)[0]


def load_prompts(path: Path, roster: Sequence[str]) -> tuple[VideoPrompt, ...]:
    """Read a prompt file in which every character must be in ``roster``.

    Raises BadInput with one message that lists every problem, each with its line and key.
    """
    file, lines = _read_with_lines(path)
    unknown = [
        f"{path}, line {find_line(lines, ('prompts', index, 'characters'))}: no character is named "
        f"{name!r}"
        for index, prompt in enumerate(file.prompts)
        for name in prompt.characters
        if name not in roster
    ]
    if unknown:
        raise BadInput("; ".join(unknown), fix=f"The library has {', '.join(sorted(roster))}.")
    return file.prompts


def _read_with_lines(path: Path) -> tuple[PromptFile, LineNumbers]:
    document, lines = read_yaml_file(path)
    try:
        return PromptFile.model_validate(document), lines
    except ValidationError as error:
        raise validation_error(path, error, lines) from error
