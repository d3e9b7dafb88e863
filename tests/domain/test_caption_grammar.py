from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mimix_core.domain.caption_grammar import (
    BadCaption,
    Caption,
    CaptionVariant,
    CharacterAction,
    parse_caption,
    render_caption,
    resolve_aliases,
    validate_action,
)
from mimix_core.domain.character_names import alias_map
from mimix_core.domain.library import Style

# Built from what makes grammars ambiguous: full stops, titles, tag words, commas, odd letters.
WORDS = ["runs", "Mr. Bean", "a.b", "Mr", "Dr. No", "No", "St", "3.5", "é", "猫", "Character: X"]
WORDS += ["U.S.A.", "at 5 p.m.", 'says "No."', "says “Stop! Go.”", "it's", "e\u0301", "👍🏽", "ß."]
MARKS = [". ", " ", ",", ":", "?", "!", "...", "-", "scene-style:cartoon", '"', "\u200b"]
WORDS += ["George Sr.", "J. R.", "U.S.", "Homer J. Simpson", "plan B", "Fr", "A kitchen", "etc"]
PIECES = st.sampled_from([*WORDS, *MARKS])
NAMES = ["Tom", "Mr. Bean", "Ice Bear", "George Sr.", "Dr. Strange", "J. R.", "U.S.", "E.T."]
NAMES += ["Mr. T", "Homer J. Simpson", "Malcolm X", "R.O.B."]
TEXTS = st.lists(PIECES, min_size=1, max_size=6).map("".join) | st.text(max_size=12)


def valid(text: str) -> bool:
    try:
        Caption(actions=(CharacterAction(name="X", action=text),), style=Style.CARTOON)
    except ValidationError:
        return False
    return True


def allowed_name(text: str) -> bool:
    try:
        CharacterAction(name=text, action="runs")
    except ValidationError:
        return False
    return True


def allowed_context(text: str) -> bool:
    try:
        Caption(
            actions=(CharacterAction(name="X", action="runs"),), context=text, style=Style.CARTOON
        )
    except ValidationError:
        return False
    return True


CAPTIONS = st.builds(
    Caption,
    actions=st.lists(
        st.builds(
            CharacterAction,
            name=st.sampled_from(NAMES) | st.text(max_size=12).filter(allowed_name),
            action=TEXTS.filter(valid),
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
    context=TEXTS.filter(allowed_context),
    style=st.sampled_from(Style),
)

EXAMPLE = Caption(
    actions=(
        CharacterAction(name="Tom", action="chases Jerry"),
        CharacterAction(name="Jerry", action="hides from Mr. Bean"),
    ),
    context="A kitchen. It is night",
    style=Style.CARTOON,
)


@given(CAPTIONS)
def test_parsing_undoes_rendering(caption: Caption) -> None:
    assert parse_caption(render_caption(caption)) == caption


@given(TEXTS | CAPTIONS.map(render_caption), TEXTS)
def test_a_text_that_parses_is_the_rendering_of_its_caption(text: str, more: str) -> None:
    for candidate in (text, text + more, more + text):
        try:
            caption = parse_caption(candidate)
        except BadCaption:
            continue
        assert render_caption(caption) == candidate


@pytest.mark.parametrize(
    ("variant", "text"),
    [
        (
            CaptionVariant.BOTH,
            "[Character: Tom], chases Jerry. [Character: Jerry], hides from Mr. Bean. "
            "A kitchen. It is night. [scene-style:cartoon]",
        ),
        (
            CaptionVariant.CHARACTER,
            "[Character: Tom], chases Jerry. [Character: Jerry], hides from Mr. Bean. "
            "A kitchen. It is night.",
        ),
        (
            CaptionVariant.SCENE_STYLE,
            "Tom chases Jerry. Jerry hides from Mr. Bean. "
            "A kitchen. It is night. [scene-style:cartoon]",
        ),
        (
            CaptionVariant.NO_TAGS,
            "Tom chases Jerry. Jerry hides from Mr. Bean. A kitchen. It is night.",
        ),
    ],
)
def test_the_arms_of_table_2_come_from_one_caption(variant: CaptionVariant, text: str) -> None:
    assert render_caption(EXAMPLE, variant) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "runs. Then hides",
        "runs.",
        "runs!",
        " runs",
        "looks at [Character: Tom]",
        "runs\nhides",
        "looks at Mr",
        "shouts [loudly]",
    ],
)
def test_an_action_that_would_break_the_grammar_is_rejected(text: str) -> None:
    with pytest.raises(ValueError):
        validate_action(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[Character: Tom], runs.",
        "[Character: Tom], runs. [scene-style:watercolour]",
        "[Character: Tom], runs [scene-style:cartoon]",
        "[Character: Tom],runs. [scene-style:cartoon]",
        "[Character:Tom], runs. [scene-style:cartoon]",
        "A kitchen. [scene-style:cartoon]",
        "[Character: Tom], runs.  [Character: Tom], hides. [scene-style:cartoon]",
        "[Character: Tom], runs. [scene-style:cartoon] [scene-style:cartoon]",
    ],
)
def test_invalid_captions_are_rejected(text: str) -> None:
    with pytest.raises(BadCaption):
        parse_caption(text)


def test_names_are_unique_and_in_the_order_of_their_actions() -> None:
    actions = tuple(CharacterAction(name=n, action="runs") for n in ("Tom", "Jerry", "Tom"))
    assert Caption(actions=actions, style=Style.CARTOON).character_names() == ("Tom", "Jerry")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("context", ["", "A kitchen", "Night falls over the U.S.", "night"])
def test_a_name_with_dots_stands_anywhere_in_a_caption(name: str, context: str) -> None:
    """Names of the library: in the tag, within an action, and at the end of one."""
    actions = (
        CharacterAction(name=name, action=f"waves at {name} and runs"),
        CharacterAction(name="Tom", action=f"hugs {name}"),
        CharacterAction(name=name, action=f"hides behind {name}"),
    )
    caption = Caption(actions=actions, context=context, style=Style.CARTOON)
    text = render_caption(caption)
    assert text.count("[Character: ") == 3 and ".. [" not in text
    assert parse_caption(text) == caption


@pytest.mark.parametrize(
    ("text", "actions", "context"),
    [
        ("[Character: Tom], hugs Al Sr. [Character: Jo], runs.", ["hugs Al Sr.", "runs"], ""),
        ("[Character: Tom], hugs George Sr. and runs.", ["hugs George Sr. and runs"], ""),
        ("[Character: Tom], flies to the U.S. The sky.", ["flies to the U.S."], "The sky"),
        ("[Character: Tom], flies to the U.S. Army.", ["flies to the U.S. Army"], ""),
        ("[Character: Tom], sees J. R. Ewing. A bar.", ["sees J. R. Ewing"], "A bar"),
        ("[Character: Tom], reads plan B. The end.", ["reads plan B"], "The end"),
        ("[Character: Tom], wakes at 5 a.m. In bed.", ["wakes at 5 a.m."], "In bed"),
    ],
)
def test_dots_of_abbreviations_end_no_sentence(text: str, actions: list[str], context: str) -> None:
    caption = parse_caption(f"{text} [scene-style:cartoon]")
    assert [action.action for action in caption.actions] == actions
    assert caption.context == context


def test_aliases_in_tags_are_read_as_the_character() -> None:
    caption = parse_caption("[Character: the cat], runs. [scene-style:cartoon]")
    names = alias_map(("Tom",), {"The Cat": "Tom"})
    assert resolve_aliases(caption, names).character_names() == ("Tom",)
