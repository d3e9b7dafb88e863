"""The prompts a model is asked for: typed rows, rendered by the captions' grammar.

A prompt is written as the captions are that the model was trained on (paper, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from mimix_core.domain.caption_grammar import Caption, CharacterAction, Context, Variant, render
from mimix_core.domain.library import Library, Lines, Style, invalid, read_yaml
from mimix_core.engine.artifacts import Frozen
from mimix_core.errors import BadInput

Category = Literal["single", "inter-style", "intra-style", "inter-series", "intra-series"]


class Home(Frozen):
    """Where a character comes from."""

    name: str = Field(min_length=1)
    show: str = Field(min_length=1, description="The id of the show.")
    style: Style = Field(description="Of the show; a scene may have the other.")


def homes_of(library: Library) -> tuple[Home, ...]:
    """Every character of a library with its home."""
    return tuple(
        Home(name=character.name, show=show.id, style=show.style)
        for show in library.shows
        for character in show.characters
    )


def groups(homes: Sequence[Home]) -> tuple[Category, ...]:
    """All groups of the paper that a prompt of these characters belongs to.

    They overlap: characters of two styles are of two series as well.
    """
    if len(homes) == 1:
        return ("single",)
    styles, shows = {home.style for home in homes}, {home.show for home in homes}
    return (
        "inter-style" if len(styles) > 1 else "intra-style",
        "inter-series" if len(shows) > 1 else "intra-series",
    )


class Prompt(Frozen):
    """One video to generate."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Names the video's file.")
    category: Category = Field(description="How many characters, and how far apart their homes.")
    characters: tuple[str, ...] = Field(min_length=1, max_length=3)
    actions: tuple[CharacterAction, ...] = Field(min_length=1)
    setting: Context = ""
    style: Style = Field(description="Of the scene.")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Prompt:
        if (self.category == "single") != (len(self.characters) == 1):
            raise ValueError(f"category {self.category} with {len(self.characters)} characters")
        acting = {action.name for action in self.actions}
        if acting != set(self.characters) or len(acting) != len(self.characters):
            raise ValueError(
                f"characters are {', '.join(self.characters)}, but {', '.join(sorted(acting))} act"
            )
        return self

    def text(self, variant: Variant = Variant.BOTH) -> str:
        """The prompt as the model reads it; the other variants are the paper's Table 2."""
        caption = Caption(actions=self.actions, context=self.setting, style=self.style)
        return render(caption, variant)


class PromptFile(Frozen):
    """A YAML file of prompts."""

    version: str = Field("", description="Names the set; figures of two are never compared.")
    cast: tuple[Home, ...] = Field((), description="The homes of all characters, or nothing.")
    prompts: tuple[Prompt, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> PromptFile:
        for what, names in (
            ("id", [prompt.id for prompt in self.prompts]),
            ("character", [home.name for home in self.cast]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"the {what} {twice[0]!r} stands twice")
        return self

    @model_validator(mode="after")
    def _at_home(self) -> PromptFile:
        known = {home.name: home for home in self.cast}
        for prompt in self.prompts if self.cast else ():
            unknown = [name for name in prompt.characters if name not in known]
            if unknown:
                raise ValueError(f"{prompt.id}: {unknown[0]!r} is not in the cast")
            fitting = groups([known[name] for name in prompt.characters])
            if prompt.category not in fitting:
                raise ValueError(f"{prompt.id} is {' and '.join(fitting)}, not {prompt.category}")
        return self


def read_prompts(path: Path) -> PromptFile:
    """Read and check a file of prompts, whoever its characters are. Raises BadInput."""
    return _read(path)[0]


def load_prompts(path: Path, roster: Sequence[str]) -> tuple[Prompt, ...]:
    """Read and check a file of prompts; ``roster`` holds the names of all known characters.

    Raises BadInput with one message that names every problem, each with its line and key.
    """
    file, lines = _read(path)
    unknown = [
        f"{path}, line {lines[('prompts', index, 'characters')]}: no character is named {name!r}"
        for index, prompt in enumerate(file.prompts)
        for name in prompt.characters
        if name not in roster
    ]
    if unknown:
        raise BadInput("; ".join(unknown), fix=f"The library has {', '.join(sorted(roster))}.")
    return file.prompts


def _read(path: Path) -> tuple[PromptFile, Lines]:
    document, lines = read_yaml(path)
    try:
        return PromptFile.model_validate(document), lines
    except ValidationError as error:
        raise invalid(path, error, lines) from error
