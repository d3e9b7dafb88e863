"""Captions that came with clips: tags are taken as they are, plain text if of one character."""

from __future__ import annotations

import pytest

from mimix_core.domain.caption_grammar import BadCaption, render_caption
from mimix_core.domain.library import Style
from mimix_core.stages.captions.caption_validation import CaptionRules
from mimix_core.stages.captions.imported_captions import (
    imported_caption_row,
    parse_imported_caption,
)

TAGGED = "[Character: Tom], chases Jerry. [Character: Jerry], hides. A room. [scene-style:cartoon]"


def rules(*roster: str, words: int = 100) -> CaptionRules:
    return CaptionRules(roster=roster, style=Style.CARTOON, max_words=words)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (TAGGED, TAGGED),
        ("Tom runs.", "[Character: Tom], runs. [scene-style:cartoon]"),
        ("runs across\nthe  lawn", "[Character: Tom], runs across the lawn. [scene-style:cartoon]"),
        ("tom runs! A lawn.", "[Character: Tom], runs! A lawn. [scene-style:cartoon]"),
        ("grüßt “Zoë” 🎉?", "[Character: Tom], grüßt “Zoë” 🎉. [scene-style:cartoon]"),
    ],
)
def test_plain_text_becomes_the_characters_action(text: str, parsed: str) -> None:
    caption = parse_imported_caption(text, ("Tom",), Style.CARTOON)
    assert render_caption(caption) == parsed


@pytest.mark.parametrize(
    ("text", "roster", "problem"),
    [
        ("Tom chases Jerry.", ("Tom", "Jerry"), "not known which character it is about"),
        ("A lawn.", (), "not known which character it is about"),
        ("[Character: Tom], runs", ("Tom",), "does not end with"),
        ("...", ("Tom",), "cannot be empty|does not end"),
    ],
)
def test_what_says_nothing_of_one_character_is_refused(
    text: str, roster: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(BadCaption, match=problem):
        parse_imported_caption(text, roster, Style.CARTOON)


def test_an_imported_caption_is_checked_like_any_other() -> None:
    def row(text: str, clips: int = 1, **how: int) -> tuple[str, str]:
        names = {"thomas": "Tom"}
        made = imported_caption_row("c", text, rules("Tom", "Jerry", **how), names, clips)
        assert made["backend"] == "imported"
        return made["status"], made["detail"] or made["caption"]

    assert row(TAGGED) == ("ok", TAGGED)
    alias = "[Character: Thomas], runs. [scene-style:cartoon]"
    assert row(alias) == ("ok", alias.replace("Thomas", "Tom"))
    for text, problem in (
        ("[Character: Spike], runs. [scene-style:cartoon]", "no character here is named 'Spike'"),
        ("[Character: Tom], runs. [scene-style:realistic]", "style"),
        (f"[Character: Tom], {'runs and ' * 200}stops. [scene-style:cartoon]", "words"),
    ):
        status, detail = row(text)
        assert status == "failed" and problem in detail
    status, detail = row(TAGGED, clips=2)
    assert status == "failed" and "a video that gave 2 clips" in detail
