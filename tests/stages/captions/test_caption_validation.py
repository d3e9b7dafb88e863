"""Checks of single captions."""

from __future__ import annotations

from typing import Any

import pytest

from mimix_core.domain.caption_grammar import parse_caption
from mimix_core.domain.library import Style
from mimix_core.stages.captions.caption_validation import (
    CaptionRules,
    find_caption_problems,
    most_common_caption,
)

GOOD = "[Character: Tom], chases Jerry. [Character: Jerry], hides. [scene-style:cartoon]"


def problems_of(text: str, **rules: Any) -> list[str]:
    defaults = {"roster": ("Tom", "Jerry"), "style": Style.CARTOON, "max_words": 20}
    return find_caption_problems(parse_caption(text), CaptionRules(**{**defaults, **rules}))


def test_a_good_caption_has_no_problem() -> None:
    assert problems_of(GOOD) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Character: Spike], barks. [scene-style:cartoon]", "Spike"),
        ("[Character: Tom], is Character: Jerry. [scene-style:cartoon]", "tag"),
        ("[Character: Tom], runs. Scene-Style: cartoon. [scene-style:cartoon]", "tag"),
        ("[Character: Tom], runs. [Character: Tom], Runs. [scene-style:cartoon]", "twice"),
        ("[Character: Tom], Tom runs. [scene-style:cartoon]", "repeats the name"),
        ("[Character: Tom], läuft mit der Maus und dem Käse. [scene-style:cartoon]", "English"),
        ("[Character: Tom], бежит за мышью. [scene-style:cartoon]", "English"),
    ],
)
def test_an_invalid_caption_has_one_clear_problem(text: str, words: str) -> None:
    (problem,) = problems_of(text)
    assert words in problem


def test_the_style_must_be_the_scenes() -> None:
    (problem,) = problems_of(GOOD, style=Style.REALISTIC)
    assert "style" in problem


def test_the_number_of_words_is_limited() -> None:
    words = len(GOOD.split())
    assert problems_of(GOOD, max_words=words) == []
    assert problems_of(GOOD, max_words=words - 1) == [
        f"{words} words, at most {words - 1} are allowed"
    ]


def test_the_number_of_tokens_is_limited_separately() -> None:
    assert problems_of(GOOD, count_tokens=len, max_tokens=len(GOOD)) == []
    assert problems_of(GOOD, count_tokens=len, max_tokens=len(GOOD) - 1) == [
        f"{len(GOOD)} tokens, the text encoder reads {len(GOOD) - 1}"
    ]


def test_names_must_be_located() -> None:
    assert problems_of(GOOD, located={"Tom", "Jerry"}) == []
    assert problems_of(GOOD, located={"Tom"}) == ["'Jerry' was not located in the clip"]
    assert problems_of(GOOD, located=None) == []


def test_required_characters_must_act() -> None:
    text = "[Character: Tom], runs. [scene-style:cartoon]"
    assert problems_of(text, required_characters=("Tom",)) == []
    assert problems_of(text, required_characters=("Jerry",)) == [
        "'Jerry' is in the clip but has no action"
    ]


@pytest.mark.parametrize(
    ("quote", "said", "fine"),
    [
        ('shouts "Come back!" at Jerry', "Hey! Come back, mouse.", True),
        ("shouts “come back” at Jerry", "Come... BACK", True),
        ('shouts "Come home" at Jerry', "Come back", False),
        ('shouts "back come" at Jerry', "Come back", False),
        ("says 'it’s mine'", "It's mine", True),
        ("says 'mine'", "", False),
        ("takes Jerry's cheese and Spike's bone", "", True),
        ("steals the dogs' bone", "", True),
    ],
)
def test_quotes_must_be_in_the_dialogue(quote: str, said: str, fine: bool) -> None:
    text = f"[Character: Tom], {quote}. [scene-style:cartoon]"
    assert (problems_of(text, dialogue=said) == []) is fine
    assert problems_of(text, dialogue=None) == []


@pytest.mark.parametrize(
    "action", ["hides", "pours a pot of tea", "hugs his son and says no", "meets a man in a van"]
)
def test_english_passes_the_language_check(action: str) -> None:
    assert problems_of(f"[Character: Tom], {action}. [scene-style:cartoon]") == []


def test_a_foreign_name_does_not_count_as_foreign_language() -> None:
    text = "[Character: 猫], runs after 猫. [scene-style:cartoon]"
    assert problems_of(text, roster=("猫",)) == []
    assert problems_of(text.replace("runs", "走"), roster=("猫",)) == [
        "it is not written in English"
    ]
    assert problems_of(text.replace("runs", "走"), roster=("猫",), english=False) == []


def test_the_most_common_caption_ignores_case() -> None:
    assert most_common_caption([]) == ("", 0)
    assert most_common_caption(["b", "a", "A", "B", "c"]) == ("A", 2)
    assert most_common_caption(["c", "b", "b"]) == ("b", 2)
