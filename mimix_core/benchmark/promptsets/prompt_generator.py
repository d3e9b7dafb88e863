"""Generate a prompt set for any library: the categories of the paper, the library's characters.

The situations are general: they use a character's name, style and show, but no behavior typical of
it. To add that, edit the generated file or write a set by hand.
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

from mimix_core.domain.caption_grammar import CharacterAction, ContextText
from mimix_core.domain.character_names import slugify
from mimix_core.domain.library import Library, Style
from mimix_core.domain.prompts import (
    CharacterOrigin,
    PromptCategory,
    PromptFile,
    VideoPrompt,
    character_origins,
    prompt_categories,
)
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.yaml_files import read_yaml_file
from mimix_core.errors import BadInput

SITUATIONS_FILE = Path(__file__).with_name("situations.yaml")

_MAX_CHARACTERS = 3
"""Most characters in a prompt, as in the paper."""

_MAX_CANDIDATES = 500
"""Casts compared per choice; of a category with more casts, a random sample is compared."""


class Situation(FrozenModel):
    """Actions of one, two or three characters; ``{a}``, ``{b}`` and ``{c}`` are their names."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    where: Literal["indoors", "outdoors", "anywhere"] = "anywhere"
    actions: tuple[str, ...] = Field(min_length=1, max_length=_MAX_CHARACTERS)


class SituationFile(FrozenModel):
    """The YAML file of situations, by number of characters, and of settings."""

    version: str
    indoors: tuple[ContextText, ...] = Field(min_length=1)
    outdoors: tuple[ContextText, ...] = Field(min_length=1)
    one: tuple[Situation, ...] = Field(min_length=1)
    two: tuple[Situation, ...] = Field(min_length=1)
    three: tuple[Situation, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _actions_fit(self) -> SituationFile:
        for size in range(1, _MAX_CHARACTERS + 1):
            for situation in self.with_characters(size):
                if len(situation.actions) != size:
                    raise ValueError(f"{situation.name} needs {size} actions")
        return self

    def with_characters(self, size: int) -> tuple[Situation, ...]:
        """Return the situations for ``size`` characters."""
        return (self.one, self.two, self.three)[size - 1]


def generate_prompts(
    library: Library, *, seed: int, singles: int = 50, multis: int = 50
) -> PromptFile:
    """Generate a prompt set over all characters of ``library``, deterministic in its arguments.

    Single prompts cycle through the characters, each in its own style. The others are balanced over
    the categories that the library allows, over two and three characters, over both scene styles
    where characters of both meet, and over the characters. All prompts differ. Raises BadInput when
    the library is too small.
    """
    situations = SituationFile.model_validate(read_yaml_file(SITUATIONS_FILE)[0])
    origins = character_origins(library)
    if singles + multis < 1:
        raise BadInput(
            "no prompts requested", where="singles and multis", fix="Request at least one."
        )
    if multis and len(origins) < 2:
        raise BadInput(
            f"prompts of several characters need two characters; {origins[0].name} is the only one",
            where="library",
            fix="Request only prompts of one character.",
        )
    rng = random.Random(seed)
    casts: list[tuple[CharacterOrigin, ...]] = [
        (origin,) for origin in islice(cycle(origins), singles)
    ]
    casts += islice(_balanced_casts(origins, rng), multis)
    scenes = _cycle_scenes(situations, rng)
    try:
        prompts = [_build_prompt(cast, scenes, number) for number, cast in enumerate(casts)]
    except ValidationError as error:
        # "Oak!": to the grammar, it ends the action.
        raise BadInput(
            f"a character's name cannot be used in a prompt ({error.errors()[0]['msg']})",
            where="library",
            fix="Write the name without a full stop.",
        ) from error
    distinct = len({prompt.render() for prompt in prompts})
    if distinct < len(prompts):
        raise BadInput(
            f"{len(prompts) - distinct} of {len(prompts)} prompts would be duplicates",
            where="library",
            fix="Request fewer prompts.",
        )
    return PromptFile(
        version=f"{situations.version}-seed-{seed}", cast=origins, prompts=tuple(prompts)
    )


def narrowest_category(origins: Sequence[CharacterOrigin]) -> PromptCategory:
    """Return the narrowest of the paper's overlapping categories that the characters belong to.

    Characters of one style from several shows are inter-series when a show has two of them (the
    third is a guest), and intra-style when each is from another show.
    """
    matching = prompt_categories(origins)
    if matching != ("intra-style", "inter-series"):
        # inter-style implies inter-series, and intra-series implies intra-style.
        return "intra-series" if "intra-series" in matching else matching[0]
    shows = Counter(origin.show for origin in origins)
    return "inter-series" if max(shows.values()) > 1 else "intra-style"


def _balanced_casts(
    origins: Sequence[CharacterOrigin], rng: random.Random
) -> Iterator[tuple[CharacterOrigin, ...]]:
    """Yield casts of two and three endlessly, category by category, least-used characters first."""
    by_kind: dict[tuple[PromptCategory, int], list[tuple[CharacterOrigin, ...]]] = {}
    for size in range(2, _MAX_CHARACTERS + 1):
        for cast in combinations(origins, size):
            by_kind.setdefault((narrowest_category(cast), size), []).append(cast)
    order: list[PromptCategory] = ["inter-style", "intra-style", "inter-series", "intra-series"]
    sizes = {
        category: cycle(
            [size for size in range(2, _MAX_CHARACTERS + 1) if (category, size) in by_kind]
        )
        for category in order
        if any(kind == category for kind, _ in by_kind)
    }
    uses: Counter[str] = Counter()
    cast_uses: Counter[tuple[CharacterOrigin, ...]] = Counter()
    for category in cycle(sizes):
        casts = by_kind[category, next(sizes[category])]
        candidates = rng.sample(casts, min(len(casts), _MAX_CANDIDATES))
        cast = min(candidates, key=lambda c: (cast_uses[c], sum(uses[origin.name] for origin in c)))
        cast_uses[cast] += 1
        uses.update(origin.name for origin in cast)
        yield tuple(rng.sample(cast, len(cast)))


def _cycle_scenes(
    situations: SituationFile, rng: random.Random
) -> dict[int, Iterator[tuple[Situation, str]]]:
    """Map each number of characters to an endless iterator of situations and settings.

    Every situation occurs once before any repeats; a repeated one gets another setting.
    """

    def cycle_settings(where: str) -> Iterator[str]:
        settings = [
            *(situations.indoors if where != "outdoors" else ()),
            *(situations.outdoors if where != "indoors" else ()),
        ]
        rng.shuffle(settings)
        return cycle(settings)

    def cycle_situations(size: int) -> Iterator[tuple[Situation, str]]:
        order = list(situations.with_characters(size))
        rng.shuffle(order)
        settings = {situation.name: cycle_settings(situation.where) for situation in order}
        for situation in cycle(order):
            yield situation, next(settings[situation.name])

    return {size: cycle_situations(size) for size in range(1, _MAX_CHARACTERS + 1)}


def _build_prompt(
    cast: tuple[CharacterOrigin, ...],
    scenes: dict[int, Iterator[tuple[Situation, str]]],
    number: int,
) -> VideoPrompt:
    situation, setting = next(scenes[len(cast)])
    names = {letter: origin.name for letter, origin in zip("abc", cast, strict=False)}
    category = narrowest_category(cast)
    styles = [origin.style for origin in cast]
    if category == "inter-style":
        styles = sorted(Style)
    return VideoPrompt(
        id=f"{category}-{number + 1:03}-{'-'.join(slugify(origin.name) for origin in cast)}",
        category=category,
        characters=tuple(origin.name for origin in cast),
        actions=tuple(
            CharacterAction(name=origin.name, action=action.format(**names))
            for origin, action in zip(cast, situation.actions, strict=True)
        ),
        setting=setting,
        style=styles[number // 4 % len(styles)],
    )


def prompts_to_yaml(prompts: PromptFile) -> str:
    """Serialize a prompt set as YAML that ``read_prompt_file`` reads."""
    text: str = yaml.safe_dump(
        prompts.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
    return text
