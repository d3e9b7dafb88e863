from __future__ import annotations

import pytest

from mimix_core.captions.checks import problems
from mimix_core.captions.grammar import parse
from mimix_core.library import Style

GOOD = "[Character: Tom], chases Jerry. [Character: Jerry], hides. [scene-style:cartoon]"


def found(text: str, *, style: Style = Style.CARTOON, max_words: int = 20) -> list[str]:
    return problems(parse(text), roster={"Tom", "Jerry"}, style=style, max_words=max_words)


def test_a_good_caption_has_no_problem() -> None:
    assert found(GOOD) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Character: Spike], barks. [scene-style:cartoon]", "Spike"),
        ("[Character: Tom], is Character: Jerry. [scene-style:cartoon]", "tag"),
        ("[Character: Tom], runs. Scene-Style: cartoon. [scene-style:cartoon]", "tag"),
        ("[Character: Tom], runs. [Character: Tom], Runs. [scene-style:cartoon]", "twice"),
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
