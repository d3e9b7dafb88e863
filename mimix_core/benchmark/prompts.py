"""The prompts a model is asked for: typed rows, rendered by the captions' grammar.

A prompt is written as the captions are that the model was trained on (paper, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from mimix_core.captions.grammar import Caption, CharacterAction, Context, render
from mimix_core.errors import BadInput
from mimix_core.library import Style, invalid, read_yaml
from mimix_core.refs import Frozen

Category = Literal["single", "inter-style", "intra-style", "inter-series", "intra-series"]


class Prompt(Frozen):
    """One video to generate."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Names the video's file.")
    category: Category = Field(description="How many characters, and how far apart their homes.")
    characters: tuple[str, ...] = Field(min_length=1, max_length=3)
    actions: tuple[CharacterAction, ...] = Field(min_length=1)
    setting: Context = ""
    style: Style

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

    def text(self) -> str:
        """The prompt as the model reads it."""
        return render(Caption(actions=self.actions, context=self.setting, style=self.style))


class PromptFile(Frozen):
    """A YAML file of prompts."""

    prompts: tuple[Prompt, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> PromptFile:
        ids = [prompt.id for prompt in self.prompts]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"the id {twice[0]!r} stands twice")
        return self


def load_prompts(path: Path, roster: Sequence[str]) -> tuple[Prompt, ...]:
    """Read and check a file of prompts; ``roster`` holds the names of all known characters.

    Raises BadInput with one message that names every problem, each with its line and key.
    """
    document, lines = read_yaml(path)
    try:
        prompts = PromptFile.model_validate(document).prompts
    except ValidationError as error:
        raise invalid(path, error, lines) from error
    unknown = [
        f"{path}, line {lines[('prompts', index, 'characters')]}: no character is named {name!r}"
        for index, prompt in enumerate(prompts)
        for name in prompt.characters
        if name not in roster
    ]
    if unknown:
        raise BadInput("; ".join(unknown), fix=f"The library has {', '.join(sorted(roster))}.")
    return prompts
