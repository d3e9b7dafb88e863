"""The prompts of the study: pairs of two shows, pairs of one show, and single characters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

from mimix_core.domain.caption_grammar import CharacterAction
from mimix_core.domain.library import Style
from mimix_core.domain.prompts import PromptCategory, PromptFile, VideoPrompt
from miniature import scenes
from miniature.figures import CARTOON, CASTS, REALISTIC, STYLES, Figure
from miniature.scenes import BACKGROUNDS, TOGETHER, Scene

Kind = Literal["cross-style", "same-show", "single"]
VARIATIONS = 4
"""Prompts of a pair in one style: two in which each acts alone, two in which one acts on the other,
each of them once."""

HELD_OUT_PAIRS = tuple(
    (cartoon.name, realistic.name)
    for (i, cartoon), (j, realistic) in product(
        enumerate(CASTS[CARTOON]), enumerate(CASTS[REALISTIC])
    )
    if (i + j) % 2
)
"""Half of the pairs of two shows; everybody is in two of them. No composite shows them together."""

COMPOSITED_PAIRS = tuple(
    (cartoon.name, realistic.name)
    for cartoon, realistic in product(CASTS[CARTOON], CASTS[REALISTIC])
    if (cartoon.name, realistic.name) not in HELD_OUT_PAIRS
)
"""The other half, which composites and true joint scenes show."""


@dataclass(frozen=True)
class StudyPrompt:
    """A scene asked for. ``held_out``: a pair of two shows that no composite shows together."""

    id: str
    kind: Kind
    scene: Scene
    held_out: bool

    def as_prompt(self) -> VideoPrompt:
        """Return the prompt in MiMix's form."""
        categories: dict[Kind, PromptCategory] = {
            "cross-style": "inter-style",
            "same-show": "intra-series",
            "single": "single",
        }
        names = tuple(figure.name for figure in self.scene.cast)
        return VideoPrompt(
            id=self.id,
            category=categories[self.kind],
            characters=names,
            actions=tuple(
                CharacterAction(name=name, action=phrase)
                for name, phrase in zip(names, self.scene.phrases(), strict=True)
            ),
            setting=BACKGROUNDS[self.scene.background],
            style=Style(self.scene.style),
        )


def study_prompts() -> tuple[StudyPrompt, ...]:
    """Return all prompts, always the same: 128 of two shows, 48 of one, 16 of one character."""
    prompts: list[StudyPrompt] = []
    for cartoon, realistic in product(CASTS[CARTOON], CASTS[REALISTIC]):
        held_out = (cartoon.name, realistic.name) in HELD_OUT_PAIRS
        for style in STYLES:
            prompts += _pair("cross-style", (cartoon, realistic), style, held_out=held_out)
    for style in STYLES:
        for pair in combinations(CASTS[style], 2):
            prompts += _pair("same-show", pair, style, held_out=False)
    for style in STYLES:
        for figure in CASTS[style]:
            for number in range(2):
                name = f"single-{figure.name.lower()}-{number}"
                scene = scenes.draw_scene(random.Random(name), [figure], style)
                prompts.append(StudyPrompt(name, "single", scene, held_out=False))
    return tuple(prompts)


def _pair(
    kind: Kind, pair: tuple[Figure, Figure], style: str, *, held_out: bool
) -> list[StudyPrompt]:
    first, second = (figure.name.lower() for figure in pair)
    prompts = []
    for number in range(VARIATIONS):
        name = f"{kind}-{first}-{second}-{style}-{number}"
        rng = random.Random(name)
        cast = pair[::-1] if number % 2 else pair
        together = rng.choice(tuple(TOGETHER)) if number >= 2 else None
        scene = scenes.draw_scene(rng, cast, style, together=together, together_share=0)
        prompts.append(StudyPrompt(name, kind, scene, held_out))
    return prompts


def prompt_file(prompts: Sequence[StudyPrompt]) -> PromptFile:
    """Return prompts as a prompt file of MiMix."""
    return PromptFile(
        version="miniature-1", prompts=tuple(prompt.as_prompt() for prompt in prompts)
    )


def fewer_prompts(prompts: Sequence[StudyPrompt], every: int) -> list[StudyPrompt]:
    """Return one of every ``every`` prompts, another one of each group in turn.

    So each variation of a pair comes, and not only the first of every pair.
    """
    return [
        prompt for number, prompt in enumerate(prompts) if number % every == number // every % every
    ]
