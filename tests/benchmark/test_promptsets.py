"""The benchmark's 100 prompts, and generated sets, are balanced as documented."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.benchmark.promptsets import MIXING_100
from mimix_core.benchmark.promptsets.prompt_generator import (
    generate_prompts,
    narrowest_category,
    prompts_to_yaml,
)
from mimix_core.domain.caption_grammar import CaptionVariant, parse_caption
from mimix_core.domain.character import Character
from mimix_core.domain.library import Episode, Library, Show, Style
from mimix_core.domain.prompts import (
    PromptFile,
    character_origins,
    load_prompts,
    prompt_categories,
    read_prompt_file,
)
from mimix_core.errors import BadInput

THE_TEN = (
    "Tom",
    "Jerry",
    "Grizzly",
    "Ice Bear",
    "Panda",
    "Mr. Bean",
    "Sheldon",
    "George",
    "Mary",
    "Penny",
)

SET = read_prompt_file(MIXING_100)
ORIGINS = {origin.name: origin for origin in SET.cast}


def test_the_100_prompts_are_balanced_as_documented() -> None:
    assert load_prompts(MIXING_100, THE_TEN) == SET.prompts
    assert Counter(prompt.category for prompt in SET.prompts) == {
        "single": 50,
        "inter-style": 20,
        "intra-style": 10,
        "inter-series": 10,
        "intra-series": 10,
    }
    singles = [prompt for prompt in SET.prompts if prompt.category == "single"]
    assert Counter(prompt.characters for prompt in singles) == {(name,): 5 for name in THE_TEN}
    assert all(prompt.style is ORIGINS[prompt.characters[0]].style for prompt in singles)
    several = [prompt for prompt in SET.prompts if prompt.category != "single"]
    assert Counter(len(prompt.characters) for prompt in several) == {2: 30, 3: 20}
    mixed = [prompt for prompt in several if prompt.category == "inter-style"]
    assert Counter(prompt.style for prompt in mixed) == {Style.CARTOON: 10, Style.REALISTIC: 10}
    assert Counter(len(prompt.characters) for prompt in mixed) == {2: 12, 3: 8}
    members = Counter(
        group
        for prompt in several
        for group in prompt_categories([ORIGINS[n] for n in prompt.characters])
    )
    assert members == {
        "inter-style": 20,
        "intra-style": 30,
        "inter-series": 40,
        "intra-series": 10,
    }


@pytest.mark.parametrize("prompt", SET.prompts, ids=lambda prompt: prompt.id)
def test_each_of_the_100_prompts_is_well_formed(prompt) -> None:
    assert prompt.category == narrowest_category([ORIGINS[name] for name in prompt.characters])
    caption = parse_caption(prompt.render())
    assert caption.character_names() == prompt.characters
    assert caption.context == prompt.setting
    # The scene has the style of at least one character.
    assert prompt.style in {ORIGINS[name].style for name in prompt.characters}
    # Actions only mention characters of the prompt.
    words = prompt.render(CaptionVariant.NO_TAGS)
    assert all(name in prompt.characters for name in THE_TEN if f" {name} " in words)
    assert "[" not in words


def test_no_wording_is_repeated() -> None:
    assert len({prompt.render() for prompt in SET.prompts}) == 100
    assert len({action.action for prompt in SET.prompts for action in prompt.actions}) == 170


def library(casts: list[tuple[Style, int]]) -> Library:
    return Library(
        shows=tuple(
            Show(
                id=f"show-{number}",
                title="A show",
                style=style,
                characters=tuple(Character(name=f"Mr. {number}-{i}") for i in range(size)),
                episodes=(Episode(path=Path("e.mp4")),),
            )
            for number, (style, size) in enumerate(casts)
        )
    )


LIBRARIES = st.lists(
    st.tuples(st.sampled_from(Style), st.integers(1, 3)), min_size=1, max_size=4
).map(library)


@settings(max_examples=20)
@given(LIBRARIES, st.integers(0, 9), st.integers(0, 40), st.integers(0, 40))
def test_a_generated_set_is_balanced_and_can_be_read(
    of: Library, seed: int, singles: int, multis: int
) -> None:
    origins = {origin.name: origin for origin in character_origins(of)}
    if singles + multis == 0 or (multis and len(origins) < 2):
        with pytest.raises(BadInput):
            generate_prompts(of, seed=seed, singles=singles, multis=multis)
        return
    generated = generate_prompts(of, seed=seed, singles=singles, multis=multis)
    assert generated == generate_prompts(of, seed=seed, singles=singles, multis=multis)
    assert PromptFile.model_validate(yaml.safe_load(prompts_to_yaml(generated))) == generated
    alone = Counter(p.characters for p in generated.prompts if p.category == "single")
    assert alone.total() == singles
    assert len(generated.prompts) == singles + multis
    if singles:
        assert max(alone.values()) - (min(alone.values()) if len(alone) == len(origins) else 0) <= 1
    met = Counter(p.category for p in generated.prompts if p.category != "single")
    assert not met or max(met.values()) - min(met.values()) <= 1
    for prompt in generated.prompts:
        own = [origins[name] for name in prompt.characters]
        assert prompt.category == narrowest_category(own)
        assert prompt.style in {origin.style for origin in own}
        assert "{" not in prompt.render()


def test_different_seeds_generate_different_sets() -> None:
    of = library([(Style.CARTOON, 3), (Style.REALISTIC, 2)])
    assert generate_prompts(of, seed=0).prompts != generate_prompts(of, seed=1).prompts


def test_every_category_of_a_library_is_covered() -> None:
    of = library([(Style.CARTOON, 3), (Style.CARTOON, 2), (Style.REALISTIC, 2)])
    generated = generate_prompts(of, seed=0)
    counted = Counter(prompt.category for prompt in generated.prompts)
    # No three shows of one style: an intra-style prompt has two characters here.
    assert {counted[name] for name in counted if name != "single"} == {12, 13}
    assert len(counted) == 5
    shares = Counter(name for p in generated.prompts for name in p.characters)
    assert max(shares.values()) <= 2 * min(shares.values())


def test_names_with_dots_are_used_in_prompts() -> None:
    of = library([(Style.CARTOON, 1)])
    (show,) = of.shows
    names = ("Prof. Oak", "George Sr.", "J. R.", "Mr. T")
    dotted = show.model_copy(update={"characters": tuple(Character(name=name) for name in names)})
    generated = generate_prompts(Library(shows=(dotted,)), seed=0)
    used = {name for prompt in generated.prompts for name in prompt.characters}
    assert used == set(names)


def test_a_name_that_ends_a_sentence_is_rejected() -> None:
    """A library refuses such a name; one that is made otherwise is refused here."""
    of = library([(Style.CARTOON, 1)])
    (show,) = of.shows
    oak = Character(name="Oak").model_copy(update={"name": "Oak!"})
    cast = show.model_copy(update={"characters": (oak, Character(name="A"))})
    with pytest.raises(BadInput, match=r"cannot be used in a prompt.*Oak!"):
        generate_prompts(of.model_copy(update={"shows": (cast,)}), seed=0)


def test_too_many_prompts_are_rejected() -> None:
    with pytest.raises(BadInput, match="of 1000 prompts would be duplicates"):
        generate_prompts(library([(Style.CARTOON, 1)]), seed=0, singles=1000, multis=0)
