"""The benchmark's hundred prompts are balanced as documented; a made set is, for any library."""

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
from mimix_core.domain.library import Character, Episode, Library, Show, Style
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
HOMES = {home.name: home for home in SET.cast}


def test_the_hundred_are_what_their_file_says() -> None:
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
    assert all(prompt.style is HOMES[prompt.characters[0]].style for prompt in singles)
    several = [prompt for prompt in SET.prompts if prompt.category != "single"]
    assert Counter(len(prompt.characters) for prompt in several) == {2: 30, 3: 20}
    mixed = [prompt for prompt in several if prompt.category == "inter-style"]
    assert Counter(prompt.style for prompt in mixed) == {Style.CARTOON: 10, Style.REALISTIC: 10}
    assert Counter(len(prompt.characters) for prompt in mixed) == {2: 12, 3: 8}
    members = Counter(
        group for prompt in several for group in prompt_categories([HOMES[n] for n in prompt.characters])
    )
    assert members == {
        "inter-style": 20,
        "intra-style": 30,
        "inter-series": 40,
        "intra-series": 10,
    }


@pytest.mark.parametrize("prompt", SET.prompts, ids=lambda prompt: prompt.id)
def test_each_of_the_hundred_is_well_formed(prompt) -> None:
    assert prompt.category == narrowest_category([HOMES[name] for name in prompt.characters])
    caption = parse_caption(prompt.text())
    assert caption.character_names() == prompt.characters
    assert caption.context == prompt.setting
    # Outside of its style, a scene with nobody of that style was not asked for.
    assert prompt.style in {HOMES[name].style for name in prompt.characters}
    # Who is named in an action is there to be acted with.
    words = prompt.text(CaptionVariant.NO_TAGS)
    assert all(name in prompt.characters for name in THE_TEN if f" {name} " in words)
    assert "[" not in words


def test_no_wording_stands_twice() -> None:
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
def test_a_made_set_is_balanced_and_reads_back(
    of: Library, seed: int, singles: int, multis: int
) -> None:
    homes = {home.name: home for home in character_origins(of)}
    if singles + multis == 0 or (multis and len(homes) < 2):
        with pytest.raises(BadInput):
            generate_prompts(of, seed=seed, singles=singles, multis=multis)
        return
    made = generate_prompts(of, seed=seed, singles=singles, multis=multis)
    assert made == generate_prompts(of, seed=seed, singles=singles, multis=multis)
    assert PromptFile.model_validate(yaml.safe_load(prompts_to_yaml(made))) == made
    alone = Counter(p.characters for p in made.prompts if p.category == "single")
    assert alone.total() == singles
    assert len(made.prompts) == singles + multis
    if singles:
        assert max(alone.values()) - (min(alone.values()) if len(alone) == len(homes) else 0) <= 1
    met = Counter(p.category for p in made.prompts if p.category != "single")
    assert not met or max(met.values()) - min(met.values()) <= 1
    for prompt in made.prompts:
        own = [homes[name] for name in prompt.characters]
        assert prompt.category == narrowest_category(own)
        assert prompt.style in {home.style for home in own}
        assert "{" not in prompt.render()


def test_another_seed_makes_another_set() -> None:
    of = library([(Style.CARTOON, 3), (Style.REALISTIC, 2)])
    assert generate_prompts(of, seed=0).prompts != generate_prompts(of, seed=1).prompts


def test_every_group_a_library_has_is_asked_for() -> None:
    of = library([(Style.CARTOON, 3), (Style.CARTOON, 2), (Style.REALISTIC, 2)])
    made = generate_prompts(of, seed=0)
    counted = Counter(prompt.category for prompt in made.prompts)
    # No three shows of one style: an intra-style prompt has two characters here.
    assert {counted[name] for name in counted if name != "single"} == {12, 13}
    assert len(counted) == 5
    shares = Counter(name for p in made.prompts for name in p.characters)
    assert max(shares.values()) <= 2 * min(shares.values())


def test_a_name_that_ends_a_sentence_is_refused() -> None:
    of = library([(Style.CARTOON, 1)])
    (show,) = of.shows
    oak = show.model_copy(update={"characters": (Character(name="Prof. Oak"), Character(name="A"))})
    with pytest.raises(BadInput, match=r"cannot be used in a prompt.*Prof\. Oak"):
        generate_prompts(Library(shows=(oak,)), seed=0)


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(BadInput, match="of 1000 prompts would be duplicates"):
        generate_prompts(library([(Style.CARTOON, 1)]), seed=0, singles=1000, multis=0)
