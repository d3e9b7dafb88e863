"""A set of prompts for any library: the groups of the paper's benchmark, with its own characters.

The situations are general: they know a character's name, style and show, and no manner of its own.
Whoever wants the manner too edits what this makes, or writes a set as the paper's was written.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, cycle, islice
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from mimix_core.domain.caption_grammar import CharacterAction, Context
from mimix_core.domain.character_names import slug
from mimix_core.domain.library import Library, Style, read_yaml
from mimix_core.domain.prompts import Category, Home, Prompt, PromptFile, groups, homes_of
from mimix_core.engine.artifacts import Frozen
from mimix_core.errors import BadInput

SITUATIONS = Path(__file__).with_name("situations.yaml")

_LARGEST = 3
"""Characters of a prompt, as in the paper."""

_CASTS_TRIED = 500
"""Casts of a group that are weighed against each other; a larger library is sampled."""


class Situation(Frozen):
    """What one, two or three characters do; ``{a}``, ``{b}`` and ``{c}`` stand for their names."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    where: Literal["indoors", "outdoors", "anywhere"] = "anywhere"
    actions: tuple[str, ...] = Field(min_length=1, max_length=_LARGEST)


class Situations(Frozen):
    """A file of situations."""

    version: str
    indoors: tuple[Context, ...] = Field(min_length=1)
    outdoors: tuple[Context, ...] = Field(min_length=1)
    one: tuple[Situation, ...] = Field(min_length=1)
    two: tuple[Situation, ...] = Field(min_length=1)
    three: tuple[Situation, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _actions_fit(self) -> Situations:
        for size in range(1, _LARGEST + 1):
            for situation in self.of(size):
                if len(situation.actions) != size:
                    raise ValueError(f"{situation.name} wants {size} actions")
        return self

    def of(self, size: int) -> tuple[Situation, ...]:
        """The situations of so many characters."""
        return (self.one, self.two, self.three)[size - 1]


def make(library: Library, *, seed: int, singles: int = 50, multis: int = 50) -> PromptFile:
    """A set of prompts over all characters of ``library``; the same arguments, the same set.

    Singles go round the characters, each in its own style. The others are spread evenly over the
    groups that the library has, over two and three characters, over both styles of scene where
    characters of both meet, and over the characters. No two are alike. Raises BadInput when the
    library is too small.
    """
    situations = Situations.model_validate(read_yaml(SITUATIONS)[0])
    homes = homes_of(library)
    if singles + multis < 1:
        raise BadInput("no prompt is asked for", fix="Ask for some.")
    if multis and len(homes) < 2:
        raise BadInput(
            f"{homes[0].name} is the only character, so nobody can meet",
            where="library",
            fix="Ask for no prompts of several characters.",
        )
    chance = random.Random(seed)
    casts: list[tuple[Home, ...]] = [(home,) for home in islice(cycle(homes), singles)]
    casts += islice(_casts(homes, chance), multis)
    scenes = _scenes(situations, chance)
    try:
        prompts = [_prompt(cast, scenes, number) for number, cast in enumerate(casts)]
    except ValidationError as error:
        # "Prof. Oak": to the grammar, a full stop before a space ends the action.
        raise BadInput(
            f"a name of the library cannot stand in a prompt ({error.errors()[0]['msg']})",
            where="library",
            fix="Write the name without a full stop.",
        ) from error
    different = len({prompt.text() for prompt in prompts})
    if different < len(prompts):
        raise BadInput(
            f"{len(prompts) - different} of {len(prompts)} prompts would repeat another",
            where="library",
            fix="Ask for fewer.",
        )
    return PromptFile(
        version=f"{situations.version}-seed-{seed}", cast=homes, prompts=tuple(prompts)
    )


def category_of(homes: Sequence[Home]) -> Category:
    """The one group a prompt is filed under: the narrowest of those it belongs to.

    Of one style over several shows it is inter-series when a show has two of the characters (a
    guest comes), and intra-style when each is of another show.
    """
    fitting = groups(homes)
    if fitting != ("intra-style", "inter-series"):
        # Narrower than its neighbour: both styles means two series, one series means one style.
        return "intra-series" if "intra-series" in fitting else fitting[0]
    shows = Counter(home.show for home in homes)
    return "inter-series" if max(shows.values()) > 1 else "intra-style"


def _casts(homes: Sequence[Home], chance: random.Random) -> Iterator[tuple[Home, ...]]:
    """Casts of two and three without end: group by group, the characters seen least first."""
    by_kind: dict[tuple[Category, int], list[tuple[Home, ...]]] = {}
    for size in range(2, _LARGEST + 1):
        for cast in combinations(homes, size):
            by_kind.setdefault((category_of(cast), size), []).append(cast)
    order: list[Category] = ["inter-style", "intra-style", "inter-series", "intra-series"]
    sizes = {
        category: cycle([size for size in range(2, _LARGEST + 1) if (category, size) in by_kind])
        for category in order
        if any(kind == category for kind, _ in by_kind)
    }
    seen: Counter[str] = Counter()
    met: Counter[tuple[Home, ...]] = Counter()
    for category in cycle(sizes):
        fitting = by_kind[category, next(sizes[category])]
        tried = chance.sample(fitting, min(len(fitting), _CASTS_TRIED))
        cast = min(tried, key=lambda c: (met[c], sum(seen[home.name] for home in c)))
        met[cast] += 1
        seen.update(home.name for home in cast)
        yield tuple(chance.sample(cast, len(cast)))


def _scenes(
    situations: Situations, chance: random.Random
) -> dict[int, Iterator[tuple[Situation, str]]]:
    """Number of characters -> situations and settings, without end.

    All situations come once before one comes again, and then in another setting.
    """

    def places(where: str) -> Iterator[str]:
        fitting = [
            *(situations.indoors if where != "outdoors" else ()),
            *(situations.outdoors if where != "indoors" else ()),
        ]
        chance.shuffle(fitting)
        return cycle(fitting)

    def shuffled(size: int) -> Iterator[tuple[Situation, str]]:
        own = list(situations.of(size))
        chance.shuffle(own)
        settings = {situation.name: places(situation.where) for situation in own}
        for situation in cycle(own):
            yield situation, next(settings[situation.name])

    return {size: shuffled(size) for size in range(1, _LARGEST + 1)}


def _prompt(
    cast: tuple[Home, ...], scenes: dict[int, Iterator[tuple[Situation, str]]], number: int
) -> Prompt:
    situation, setting = next(scenes[len(cast)])
    names = {letter: home.name for letter, home in zip("abc", cast, strict=False)}
    category = category_of(cast)
    styles = [home.style for home in cast]
    if category == "inter-style":
        styles = sorted(Style)
    return Prompt(
        id=f"{category}-{number + 1:03}-{'-'.join(slug(home.name) for home in cast)}",
        category=category,
        characters=tuple(home.name for home in cast),
        actions=tuple(
            CharacterAction(name=home.name, action=action.format(**names))
            for home, action in zip(cast, situation.actions, strict=True)
        ),
        setting=setting,
        style=styles[number // 4 % len(styles)],
    )


def as_yaml(prompts: PromptFile) -> str:
    """The set as a file that ``read_prompts`` reads back."""
    text: str = yaml.safe_dump(
        prompts.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
    return text
