"""Quotes and language of captions: what is seen is not speech, borrowed accents are English."""

from __future__ import annotations

import pytest

from mimix_core.stages.captions.text_checks import find_unsupported_quotes, is_english


@pytest.mark.parametrize(
    "text",
    [
        'points at a sign that says "EXIT"',
        "looks at the sign reading 'Krusty Krab'",
        'walks past the "Open 24 Hours" sign',
        'wears a shirt with the words "I love NY"',
        'reads a book titled "War and Peace"',
        'holds a box labeled "TNT"',
        "dances to rock 'n' roll",
        "dances to rock \u2019n\u2019 roll and eats fish 'n' chips",
        "waits 'til the dogs' bowls are full",
        '"EXIT" is written on the wall',
        'waves at Bob "The Man" Smith',
    ],
)
def test_what_is_seen_is_no_speech(text: str) -> None:
    assert find_unsupported_quotes([text], "", ['Bob "The Man" Smith']) == []


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ('says "I hate you"', "I hate you"),
        ('holds a sign and shouts "Go away"', "Go away"),
        ('stands next to a car and says "Get in"', "Get in"),
        ("whispers 'It's over'", "It's over"),
    ],
)
def test_invented_speech_is_found(text: str, quote: str) -> None:
    assert find_unsupported_quotes([text], "Hello there.") == [quote]
    assert find_unsupported_quotes([text], f"Well, {quote}!") == []


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("eats cr\u00e8me br\u00fbl\u00e9e", True),
        ("drinks a caf\u00e9 au lait \u00e0 la carte", True),
        ("hugs his fianc\u00e9e and hits a pi\u00f1ata", True),
        ("meets Ren\u00e9 and Bj\u00f6rn on the stairs of a house", True),
        ("jagt die Maus und f\u00e4llt in den Fluss", False),
        ("springer p\u00e5 v\u00e4gen mot k\u00f6ket", False),
        ("\u0142apie mysz i si\u0119 \u015bmieje", False),
        ("\u0431\u0435\u0436\u0438\u0442 \u0437\u0430 \u043c\u044b\u0448\u044c\u044e", False),
        ("\u8ffd\u8001\u9f20", False),
    ],
)
def test_borrowed_accents_are_english(text: str, english: bool) -> None:
    assert is_english(text) is english
