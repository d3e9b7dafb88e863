"""Tell the full stop of a sentence from the dot of an abbreviation or an initial.

A dot after ``Dr``, ``Sr``, ``J. R`` or ``U.S`` is the abbreviation's. It ends the sentence too when
a tag, the end of the text, or a word that begins sentences follows. Where that leaves a doubt, the
sentence is written with a second dot: ``hugs George Sr.. Night falls.``
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TITLES = (
    "Mr|Mrs|Ms|Mx|Dr|Drs|St|Ste|Prof|Capt|Cpt|Cmdr|Col|Gen|Lt|Sgt|Cpl|Pvt|Maj|Adm|Rev|Fr|Msgr|Hon|"
    "Gov|Sen|Rep|Pres|Insp|Det|Supt|Mme|Mlle|Messrs|Mt|Ft"
)
"""Precede a name, so that the dot after them never ends a sentence within a text."""

_SUFFIXES = "Sr|Jr|Esq|Inc|Ltd|Co|Corp|Bros|vs|etc"

_TITLE = re.compile(rf"(?<![\w.])(?:{_TITLES})$")
_SUFFIX = re.compile(rf"(?<![\w.])(?:{_SUFFIXES})$")
_INITIALS = re.compile(r"(?<![\w.])(?:[A-Za-z]\. ?)+[A-Za-z]$")
_SINGLE_INITIAL = re.compile(r"(?<![\w.'\u2019-])[A-Z]$")

_SENTENCE_START = re.compile(
    r"(?:A|An|The|In|On|At|It|There|This|That|Inside|Outside|Behind|Under|Above|Beside|Near|Around"
    r")\b(?!\.)"
)
"""Words that begin the context of a caption, and are no names."""


_LONGEST_ABBREVIATION = 100
"""Number of characters at the end of a text that are searched for an abbreviation."""


@dataclass(frozen=True)
class SentenceEnd:
    """A sentence without its full stop, and the position of the text that follows it."""

    sentence: str
    following: int


def ends_with_abbreviation(text: str) -> bool:
    """Return whether a text, without its last dot, ends with an abbreviation or with initials."""
    end = text[-_LONGEST_ABBREVIATION:]
    return any(pattern.search(end) for pattern in (_TITLE, _SUFFIX, _INITIALS))


def find_sentence_end(text: str, start: int = 0) -> SentenceEnd | None:
    """Find the first full stop before a space that ends a sentence; None without one."""
    position = text.find(". ", start)
    while position >= 0:
        sentence = _sentence(text[start:position], text[position + 2 :])
        if sentence is not None:
            return SentenceEnd(sentence, position + 2)
        position = text.find(". ", position + 1)
    return None


def _sentence(before: str, following: str) -> str | None:
    """Return the sentence that a dot ends, or None where it ends none."""
    if before.endswith("."):
        return remove_full_stop(before)
    is_last = not following or following.startswith("[")
    if ends_with_abbreviation(before):
        starts = not _TITLE.search(before[-_LONGEST_ABBREVIATION:]) and _SENTENCE_START.match(
            following
        )
        return f"{before}." if is_last or starts else None
    if _SINGLE_INITIAL.search(before) and not is_last and not _SENTENCE_START.match(following):
        return None
    return before


def add_full_stop(sentence: str, following: str = "") -> str:
    """Return a sentence with its full stop, as ``find_sentence_end`` reads it before ``following``.

    The dot of an abbreviation at its end is the full stop as well.
    """
    text = sentence if sentence.endswith(".") else f"{sentence}."
    end = find_sentence_end(f"{text} {following}")
    return text if end is not None and end.sentence == sentence else f"{text}."


def remove_full_stop(text: str) -> str:
    """Return a text without its full stop; the dot of an abbreviation stays."""
    without = text.removesuffix(".")
    return f"{without}." if text != without and ends_with_abbreviation(without) else without
