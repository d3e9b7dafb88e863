"""What the words of a caption give away: its language, and speech that nobody said."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that hardly any sentence of their language goes without. A caption has some ten words: more
# than this a language detector would not see either, and it would bring a model along.
_ENGLISH = _words(
    "a an and are as at away back behind but by down from her his in into is it its of off on "
    "onto out over she the their them then they to toward towards under up while who with"
)
_OTHERS = _words(
    # German, French, Spanish, Italian, Portuguese, Dutch; none of them is an English word too.
    "und der das ist ein eine einen mit auf von zu dem den sich nicht im "
    "le les est dans avec une du des sur qui et il elle sa ses "
    "el los las con una del que su sus hacia "
    "gli della nel che sono di "
    "os uma com na para em "
    "het een op zijn niet naar"
)
# Straight single quotes only where they cannot be an apostrophe.
_QUOTES = re.compile(
    '"([^"]+)"|\u201c([^\u201d]+)\u201d|\u201e([^\u201c\u201d]+)[\u201c\u201d]|\u00ab([^\u00bb]+)\u00bb'
    "|(?<![^\\s(])'([^']+(?:'[a-z][^']*)*)'(?![a-z])|(?<!\\w)\u2018(.+?)\u2019(?!\\w)"
)


def spoken(text: str) -> list[str]:
    """The words of a text as they sound: without case, accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("\u2019", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+", plain.replace("'", ""))


def quotes(text: str) -> list[str]:
    """What stands in quotation marks in a text."""
    return [next(part for part in found if part) for found in _QUOTES.findall(text)]


def unsaid(texts: Iterable[str], said: str) -> list[str]:
    """The quotes in ``texts`` whose words do not stand one after the other in ``said``."""
    heard = " " + " ".join(spoken(said)) + " "
    return [
        quote
        for text in texts
        for quote in quotes(text)
        if spoken(quote) and f" {' '.join(spoken(quote))} " not in heard
    ]


def is_english(text: str, names: Collection[str] = ()) -> bool:
    """Whether a text can be English; ``names`` in it say nothing.

    A light check: letters of another alphabet, or function words of other languages that outnumber
    the English ones.
    """
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text)
    letters = [c for c in text if c.isalpha()]
    if sum(c.isascii() for c in letters) < 0.9 * len(letters):
        return False
    words = re.findall(r"[a-z]+", text.casefold())
    foreign = sum(word in _OTHERS for word in words)
    return foreign < 2 or foreign <= sum(word in _ENGLISH for word in words)
