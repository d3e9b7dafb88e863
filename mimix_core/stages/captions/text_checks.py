"""Check the words of a caption: its language, and quotes against the dialogue."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that occur in nearly every sentence of their language. A caption has about ten words: a
# language detector would not find more evidence in them, and would need a model.
_ENGLISH_WORDS = _word_set(
    "a an and are as at away back behind but by down from her his in into is it its of off on "
    "onto out over she the their them then they to toward towards under up while who with"
)
_FOREIGN_WORDS = _word_set(
    # German, French, Spanish, Italian, Portuguese, Dutch; none of them is also an English word.
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


def normalize_words(text: str) -> list[str]:
    """Split a text into words without case, accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("\u2019", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+", plain.replace("'", ""))


def extract_quotes(text: str) -> list[str]:
    """Return the parts of a text in quotation marks."""
    return [next(part for part in groups if part) for groups in _QUOTES.findall(text)]


def find_unsupported_quotes(texts: Iterable[str], dialogue: str) -> list[str]:
    """Find quotes in ``texts`` that are not a consecutive sequence of words in ``dialogue``."""
    spoken = " " + " ".join(normalize_words(dialogue)) + " "
    return [
        quote
        for text in texts
        for quote in extract_quotes(text)
        if normalize_words(quote) and f" {' '.join(normalize_words(quote))} " not in spoken
    ]


def is_english(text: str, names: Collection[str] = ()) -> bool:
    """Return whether a text may be English; ``names`` in it are ignored.

    A light check: false for letters of another alphabet, and for function words of other languages
    that outnumber the English ones.
    """
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text)
    letters = [c for c in text if c.isalpha()]
    if sum(c.isascii() for c in letters) < 0.9 * len(letters):
        return False
    words = re.findall(r"[a-z]+", text.casefold())
    foreign = sum(word in _FOREIGN_WORDS for word in words)
    return foreign < 2 or foreign <= sum(word in _ENGLISH_WORDS for word in words)
