"""Prompts are typed rows: what they render to, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.domain.caption_grammar import Variant, parse
from mimix_core.domain.library import Library, read_yaml
from mimix_core.domain.prompts import load_prompts, read_prompts
from mimix_core.errors import BadInput

DEMO = Path(__file__).parent.parent.parent / "demo"
ROSTER = ("Bunny", "Clara")

GOOD = """\
prompts:
  - id: one
    category: inter-style
    characters: [Clara, Bunny]
    actions:
      - {name: Bunny, action: hops}
      - {name: Clara, action: laughs}
    setting: a meadow
    style: cartoon
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "prompts.yaml"
    path.write_text(text)
    return path


def test_a_prompt_reads_like_a_caption(tmp_path: Path) -> None:
    (prompt,) = load_prompts(write(tmp_path, GOOD), ROSTER)
    assert prompt.text() == (
        "[Character: Bunny], hops. [Character: Clara], laughs. a meadow. [scene-style:cartoon]"
    )
    assert parse(prompt.text()).names() == ("Bunny", "Clara")


@pytest.mark.parametrize(
    ("variant", "text"),
    [
        (Variant.NO_TAGS, "Bunny hops. Clara laughs. a meadow."),
        (Variant.CHARACTER, "[Character: Bunny], hops. [Character: Clara], laughs. a meadow."),
        (Variant.SCENE_STYLE, "Bunny hops. Clara laughs. a meadow. [scene-style:cartoon]"),
    ],
)
def test_the_arms_of_table_2_leave_tags_out(tmp_path: Path, variant: Variant, text: str) -> None:
    (prompt,) = load_prompts(write(tmp_path, GOOD), ROSTER)
    assert prompt.text(variant) == text


CAST = """\
version: v1
cast:
  - {name: Clara, show: street, style: realistic}
  - {name: Bunny, show: film, style: cartoon}
"""


def test_a_cast_says_where_everybody_comes_from(tmp_path: Path) -> None:
    file = read_prompts(write(tmp_path, CAST + GOOD))
    assert file.version == "v1"
    assert [home.show for home in file.cast] == ["street", "film"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("inter-style", "intra-series", "one is inter-style and inter-series, not intra-series"),
        ("name: Clara, show", "name: Frank, show", "one: 'Clara' is not in the cast"),
        ("name: Clara, show", "name: Bunny, show", "the character 'Bunny' stands twice"),
    ],
)
def test_a_category_must_fit_the_cast(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        read_prompts(write(tmp_path, (CAST + GOOD).replace(old, new, 1)))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("inter-style", "single", r"line 2.*category single with 2 characters"),
        ("[Clara, Bunny]", "[Clara, Spike]", r"characters are Clara, Spike, but Bunny, Clara act"),
        ("[Clara, Bunny]", "[Clara, Clara]", r"characters are Clara, Clara, but Bunny, Clara act"),
        ("inter-style", "both", r"line 3, key prompts.0.category"),
        ("style: cartoon\n", "style: anime\n", r"line 9, key prompts.0.style"),
        ("setting:", "place:", r"line 8, key prompts.0.place: unknown key"),
        ("id: one", "id: One video", r"line 2, key prompts.0.id"),
        ("hops", "hops. It lands", r"not one sentence"),
    ],
)
def test_a_wrong_prompt_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        load_prompts(write(tmp_path, GOOD.replace(old, new, 1)), ROSTER)


def test_an_unknown_character_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"line 4: no character is named 'Bunny'.*has Clara"):
        load_prompts(write(tmp_path, GOOD), ("Clara",))


def test_an_id_stands_once(tmp_path: Path) -> None:
    twice = GOOD + GOOD.removeprefix("prompts:\n")
    with pytest.raises(BadInput, match="the id 'one' stands twice"):
        load_prompts(write(tmp_path, twice), ROSTER)


def test_the_demo_asks_for_its_own_characters() -> None:
    # Read as text: the demo's footage need not be there.
    library = Library.model_validate(read_yaml(DEMO / "library.yaml")[0])
    prompts = load_prompts(DEMO / "prompts.yaml", [c.name for c in library.characters()])
    homes = {c.name: show for show in library.shows for c in show.characters}
    assert {prompt.category for prompt in prompts} >= {"single", "intra-series", "inter-style"}
    for prompt in prompts:
        shows = {homes[name].id for name in prompt.characters}
        styles = {homes[name].style for name in prompt.characters}
        if prompt.category.startswith("inter"):
            assert len(shows) > 1, prompt.id
        if prompt.category == "inter-style":
            assert len(styles) == 2, prompt.id
        if prompt.category == "intra-series":
            assert len(shows) == 1, prompt.id
        assert prompt.style in styles, prompt.id
