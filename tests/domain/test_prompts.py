"""Prompts are typed rows: their rendering, and rejected files with line numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.domain.caption_grammar import CaptionVariant, parse_caption
from mimix_core.domain.library import Library
from mimix_core.domain.prompts import load_prompts, read_prompt_file
from mimix_core.engine.yaml_files import read_yaml_file
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
    assert prompt.render() == (
        "[Character: Bunny], hops. [Character: Clara], laughs. a meadow. [scene-style:cartoon]"
    )
    assert parse_caption(prompt.render()).character_names() == ("Bunny", "Clara")


@pytest.mark.parametrize(
    ("variant", "text"),
    [
        (CaptionVariant.NO_TAGS, "Bunny hops. Clara laughs. a meadow."),
        (
            CaptionVariant.CHARACTER,
            "[Character: Bunny], hops. [Character: Clara], laughs. a meadow.",
        ),
        (CaptionVariant.SCENE_STYLE, "Bunny hops. Clara laughs. a meadow. [scene-style:cartoon]"),
    ],
)
def test_the_arms_of_table_2_leave_tags_out(
    tmp_path: Path, variant: CaptionVariant, text: str
) -> None:
    (prompt,) = load_prompts(write(tmp_path, GOOD), ROSTER)
    assert prompt.render(variant) == text


CAST = """\
version: v1
cast:
  - {name: Clara, show: street, style: realistic}
  - {name: Bunny, show: film, style: cartoon}
"""


def test_a_cast_lists_the_origin_of_each_character(tmp_path: Path) -> None:
    file = read_prompt_file(write(tmp_path, CAST + GOOD))
    assert file.version == "v1"
    assert [home.show for home in file.cast] == ["street", "film"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "inter-style",
            "intra-series",
            "line 7, key prompts.0.category: one is inter-style and inter-series, not intra-series",
        ),
        (
            "name: Clara, show",
            "name: Frank, show",
            "line 8, key prompts.0.characters: one: 'Clara' is not in the cast",
        ),
        (
            "name: Clara, show",
            "name: Bunny, show",
            "line 4, key cast.1.name: duplicate character 'Bunny'",
        ),
    ],
)
def test_a_category_must_fit_the_cast(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_prompt_file(write(tmp_path, (CAST + GOOD).replace(old, new, 1)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("inter-style", "single", r"line 2.*category single with 2 characters"),
        ("[Clara, Bunny]", "[Clara, Spike]", r"characters are Clara, Spike, but Bunny, Clara act"),
        ("[Clara, Bunny]", "[Clara, Clara]", r"characters are Clara, Clara, but Bunny, Clara act"),
        ("inter-style", "both", r"line 3, key prompts.0.category"),
        ("style: cartoon\n", "style: anime\n", r"line 9, key prompts.0.style"),
        ("setting:", "place:", r"line 8, key prompts.0.place: unknown key"),
        ("id: one", "id: One video", r"line 2, key prompts.0.id"),
        ("id: one", f"id: {'o' * 201}", r"line 2, key prompts.0.id: .* at most 200 characters"),
        ("hops", "hops. It lands", r"not one sentence"),
    ],
)
def test_an_invalid_prompt_is_rejected(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_prompts(write(tmp_path, GOOD.replace(old, new, 1)), ROSTER)


def test_a_list_with_an_invalid_entry_is_not_called_empty(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as invalid:
        load_prompts(write(tmp_path, GOOD.replace("inter-style", "single")), ROSTER)
    assert str(invalid.value).count("line ") == 1
    with pytest.raises(BadInput, match="line 1, key prompts: must not be empty"):
        load_prompts(write(tmp_path, "prompts: []\n"), ROSTER)


def test_an_unknown_character_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"line 4: no character is named 'Bunny'.*has Clara"):
        load_prompts(write(tmp_path, GOOD), ("Clara",))


def test_ids_are_unique(tmp_path: Path) -> None:
    duplicated = GOOD + GOOD.removeprefix("prompts:\n")
    with pytest.raises(BadInput, match=r"line 10, key prompts.1.id: duplicate id 'one'"):
        load_prompts(write(tmp_path, duplicated), ROSTER)


def test_problems_of_several_prompts_are_listed_together(tmp_path: Path) -> None:
    second = GOOD.removeprefix("prompts:\n").replace("inter-style", "intra-style")
    cast = CAST.replace("name: Clara", "name: Frank")
    with pytest.raises(BadInput) as caught:
        read_prompt_file(write(tmp_path, cast + GOOD + second))
    for problem in (
        "line 14, key prompts.1.id: duplicate id 'one'",
        "line 8, key prompts.0.characters: one: 'Clara' is not in the cast",
        "line 16, key prompts.1.characters: one: 'Clara' is not in the cast",
    ):
        assert problem in str(caught.value)


def test_the_demo_prompts_name_characters_of_its_library() -> None:
    # Read as text: the demo's footage need not be there.
    library = Library.model_validate(read_yaml_file(DEMO / "library.yaml")[0])
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
