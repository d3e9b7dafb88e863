from __future__ import annotations

from typing import Any

import pytest

from mimix_core.domain.caption_grammar import parse
from mimix_core.domain.library import Style
from mimix_core.stages.captions.caption_validation import Rules, most_shared, problems

GOOD = "[Character: Tom], chases Jerry. [Character: Jerry], hides. [scene-style:cartoon]"


def found(text: str, **rules: Any) -> list[str]:
    defaults = {"roster": ("Tom", "Jerry"), "style": Style.CARTOON, "max_words": 20}
    return problems(parse(text), Rules(**{**defaults, **rules}))


def test_a_good_caption_has_no_problem() -> None:
    assert found(GOOD) == []


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
def test_a_bad_caption_says_what_is_wrong(text: str, words: str) -> None:
    (problem,) = found(text)
    assert words in problem


def test_the_style_must_be_the_scenes() -> None:
    (problem,) = found(GOOD, style=Style.REALISTIC)
    assert "style" in problem


def test_a_caption_may_have_just_so_many_words() -> None:
    words = len(GOOD.split())
    assert found(GOOD, max_words=words) == []
    assert found(GOOD, max_words=words - 1) == [f"{words} words, at most {words - 1} are allowed"]


def test_what_the_text_encoder_counts_is_a_bound_of_its_own() -> None:
    assert found(GOOD, count_tokens=len, max_tokens=len(GOOD)) == []
    assert found(GOOD, count_tokens=len, max_tokens=len(GOOD) - 1) == [
        f"{len(GOOD)} tokens, the text encoder reads {len(GOOD) - 1}"
    ]


def test_names_agree_with_who_was_located() -> None:
    assert found(GOOD, seen={"Tom", "Jerry"}) == []
    assert found(GOOD, seen={"Tom"}) == ["'Jerry' was not located in the clip"]
    assert found(GOOD, seen=None) == []


def test_who_is_there_for_sure_must_act() -> None:
    text = "[Character: Tom], runs. [scene-style:cartoon]"
    assert found(text, wanted=("Tom",)) == []
    assert found(text, wanted=("Jerry",)) == ["'Jerry' is in the clip and does nothing"]


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
def test_speech_that_nobody_said_is_found(quote: str, said: str, fine: bool) -> None:
    text = f"[Character: Tom], {quote}. [scene-style:cartoon]"
    assert (found(text, said=said) == []) is fine
    assert found(text, said=None) == []


@pytest.mark.parametrize(
    "action", ["hides", "pours a pot of tea", "hugs his son and says no", "meets a man in a van"]
)
def test_english_is_english(action: str) -> None:
    assert found(f"[Character: Tom], {action}. [scene-style:cartoon]") == []


def test_a_foreign_name_is_no_foreign_language() -> None:
    text = "[Character: 猫], runs after 猫. [scene-style:cartoon]"
    assert found(text, roster=("猫",)) == []
    assert found(text.replace("runs", "走"), roster=("猫",)) == ["it is not written in English"]
    assert found(text.replace("runs", "走"), roster=("猫",), english=False) == []


def test_the_most_shared_caption_is_counted_without_case() -> None:
    assert most_shared([]) == ("", 0)
    assert most_shared(["b", "a", "A", "B", "c"]) == ("A", 2)
    assert most_shared(["c", "b", "b"]) == ("b", 2)
