"""Find subtitles that say everything in two languages, and keep one of them.

Such files show both at once: as two styles of which each line of one has its counterpart in the
other, as two rows of each event, or as events of the same times. Only what is certain is taken
apart: writing tells Chinese from English, and among languages written in Latin letters the
commonest words do. All other files stay whole.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from mimix_core.stages.transcripts.cues import Cue

_MIN_PAIRED_SHARE = Fraction(3, 5)
"""Share of the cues that must be shown in both languages: a name or a sign in another writing is
not a second language."""

_MIN_PAIRS = 4
"""With fewer cues in two languages nothing is certain."""

_MAX_START_GAP = Fraction(1, 5)
"""Seconds by which counterparts may start apart."""

_MIN_WRITING_SHARE = 0.6
"""Share of the words of a text in its writing."""

_MIN_COMMON_WORDS, _MIN_CONTRAST = 0.1, 3.0
"""Share of common words from which a text is in a language, and how many times that of the other
text it must be."""

_WRITINGS = {
    "zh": "CJK", "yue": "CJK", "cmn": "CJK", "ja": "KANA", "ko": "HANGUL",
    "ru": "CYRILLIC", "uk": "CYRILLIC", "bg": "CYRILLIC", "mk": "CYRILLIC", "be": "CYRILLIC",
    "el": "GREEK", "ar": "ARABIC", "fa": "ARABIC", "ur": "ARABIC", "he": "HEBREW", "th": "THAI",
    "hi": "DEVANAGARI", "mr": "DEVANAGARI", "ne": "DEVANAGARI", "bn": "BENGALI", "ta": "TAMIL",
    "te": "TELUGU", "ka": "GEORGIAN", "hy": "ARMENIAN",
}  # fmt: skip
"""First words of the Unicode names of the letters of languages that are not written in Latin;
``KANA`` for Chinese characters between kana."""

_SEVERAL_WRITINGS = ("sr", "kk", "uz", "az")
"""Languages of which the writing says nothing."""

_KANA = frozenset(("HIRAGANA", "KATAKANA"))
_UNSPACED = _KANA | {"CJK", "THAI"}
"""Writings without spaces between words."""

_COMMON_WORDS = {
    "en": "the you to and is it of that what in we are not have this for do be was with my he me",
    "de": "ich du das ist nicht die und es der wir sie ein was zu mit ja mir so den auf hier wie",
    "fr": "je tu le est pas la et vous les un une ce que des on il qui nous dans c'est pour ça",
    "es": "que no de la el es y en lo un por qué me una te los se con para mi está si eso",
    "it": "che non di è la il un e per ho mi una sono lo si ma cosa con ti io se questo",
    "pt": "que não o de a é e um eu você para uma isso me com se os do da está em por",
    "nl": "ik je het de is dat een niet en van we wat ze hij met zijn die er maar op heb dit",
    "sv": "jag det är du inte att en och har vi på i för som med den vad kan han om ett så",
    "da": "jeg det er du ikke at en og har vi på i for som med den hvad kan han om et så",
    "no": "jeg det er du ikke at en og har vi på i for som med den hva kan han om et så",
    "pl": "nie to się w na jest co że z do jak mi tak za ale czy ja po ty jestem mam",
    "tr": "bir bu ne ve için ben o mi çok sen var değil da de ama evet hayır benim seni",
    "vi": "không là tôi anh có và của em cho được đó này đi một người cái chúng ta",
    "id": "aku kau tidak yang ini itu dan di apa kita kamu ada akan untuk dengan dia saya",
}


@dataclass(frozen=True)
class StyledCue:
    """A cue and the style of its event; ``""`` in formats without styles."""

    cue: Cue
    style: str = ""


def select_language(cues: Sequence[StyledCue], language: str) -> tuple[list[Cue], int]:
    """Return the cues in one language, and how many lines in the other one were left out.

    ``language``: its shortest code; empty: any, and all cues are returned. They are too when
    the cues are not certainly in this language and another one.
    """
    whole = [styled.cue for styled in cues]
    if not language or language in _SEVERAL_WRITINGS:
        return whole, 0
    by_style = _select_style(cues, language)
    if by_style is not None:
        return by_style, len(whole) - len(by_style)
    by_row = _select_rows(_merge_same_times(whole), language)
    if by_row is not None:
        return by_row, sum(len(cue.lines) for cue in whole) - sum(len(cue.lines) for cue in by_row)
    return whole, 0


def _select_style(cues: Sequence[StyledCue], language: str) -> list[Cue] | None:
    """Return the cues of the styles in a language; None unless styles are its counterparts."""
    styles = {styled.style for styled in cues}
    if len(styles) < 2:
        return None
    texts = {style: [" ".join(s.cue.lines) for s in cues if s.style == style] for style in styles}
    largest = sorted(styles, key=lambda style: (-len(texts[style]), style))[:2]
    starts = [sorted(s.cue.start for s in cues if s.style == style) for style in largest]
    if not _are_counterparts(*starts):
        return None
    wanted = _tell_language(texts[largest[0]], texts[largest[1]], language)
    if wanted is None:
        return None
    other = largest[1 - wanted]
    # Small styles (italics, notes) stay unless they are in the other language's writing.
    left_out = {other} | {
        style
        for style in styles - set(largest)
        if _tell_language(texts[largest[wanted]], texts[style], language) == 0
    }
    return [styled.cue for styled in cues if styled.style not in left_out]


def _are_counterparts(one: Sequence[Fraction], other: Sequence[Fraction]) -> bool:
    """Return whether most starts of the larger style are starts of the other one, too."""
    paired = sum(_has_near(other, start) for start in one)
    return paired >= _MIN_PAIRS and paired >= _MIN_PAIRED_SHARE * len(one)


def _has_near(ordered: Sequence[Fraction], time: Fraction) -> bool:
    index = bisect_left(ordered, time - _MAX_START_GAP)
    return index < len(ordered) and ordered[index] <= time + _MAX_START_GAP


def _merge_same_times(cues: Iterable[Cue]) -> list[Cue]:
    """Merge cues of the same times into one with the rows of all, in their order."""
    merged: dict[tuple[Fraction, Fraction], list[str]] = {}
    for cue in cues:
        merged.setdefault((cue.start, cue.end), []).extend(cue.lines)
    return [Cue(*times, tuple(lines)) for times, lines in merged.items()]


def _select_rows(cues: Sequence[Cue], language: str) -> list[Cue] | None:
    """Return the cues with only the rows in a language; None unless most have rows of both.

    A sentence of two rows in each language is four rows: the upper ones are one language.
    """
    several = [cue for cue in cues if len(cue.lines) > 1]
    if len(several) < _MIN_PAIRS or len(several) < _MIN_PAIRED_SHARE * len(cues):
        return None
    upper = [" ".join(cue.lines[: len(cue.lines) // 2]) for cue in several]
    lower = [" ".join(cue.lines[(len(cue.lines) + 1) // 2 :]) for cue in several]
    wanted = _tell_language(upper, lower, language)
    if wanted is None:
        return None
    is_wanted = _row_test([upper, lower][wanted], [upper, lower][1 - wanted])
    selected = []
    for cue in cues:
        half, count = len(cue.lines) / 2, len(cue.lines)
        rows = [
            line
            for n, line in enumerate(cue.lines)
            if is_wanted(line, count == 1 or (n + 0.5 < half) == (wanted == 0))
        ]
        if rows:
            selected.append(replace(cue, lines=tuple(rows)))
    return selected


def _row_test(wanted: Iterable[str], other: Iterable[str]) -> Callable[[str, bool], bool]:
    """Return the test of a row, given whether its place is that of the wanted language."""
    writings = _writing(wanted), _writing(other)

    def test(row: str, in_place: bool) -> bool:
        found = {_letter_writing(letter) for letter in _letters(row)}
        if writings[0] == writings[1] or not found:
            return in_place
        if "LATIN" in writings:
            # Names in Latin letters occur in all writings, and nothing else in Latin text.
            return (found != {"LATIN"}) == (writings[0] != "LATIN")
        return in_place

    return test


def _tell_language(one: Sequence[str], other: Sequence[str], language: str) -> int | None:
    """Return which of two texts is in a language and the other is not; None when unsure."""
    writings = [_writing(texts) for texts in (one, other)]
    if not all(writings):
        return None
    shares = [
        _common_word_share(texts, language)
        if writing == "LATIN"
        else float(_fits(writing, language))
        for texts, writing in zip((one, other), writings, strict=True)
    ]
    best = 0 if shares[0] > shares[1] else 1
    if shares[best] < _MIN_COMMON_WORDS or shares[best] < _MIN_CONTRAST * shares[1 - best]:
        return None
    if writings[0] == writings[1] and not _is_in_another(
        [one, other][1 - best], shares[1 - best], language
    ):
        return None
    return best


def _is_in_another(texts: Sequence[str], share: float, language: str) -> bool:
    """Return whether a text is certainly in some language other than the asked one.

    ``share``: of the asked language's common words in it.
    """
    others = [_common_word_share(texts, name) for name in _COMMON_WORDS if name != language]
    return max(others) >= max(_MIN_COMMON_WORDS, _MIN_CONTRAST * share)


def _fits(writing: str, language: str) -> bool:
    return writing == _WRITINGS.get(language, "")


def _writing(texts: Iterable[str]) -> str:
    """Return the writing of most words; ``KANA`` for Japanese, ``""`` for a mixture."""
    counts: Counter[str] = Counter()
    for word in re.findall(r"[^\W\d_]+", " ".join(texts)):
        letters = Counter(map(_letter_writing, _letters(word)))
        # A word of Latin letters weighs as much as a Chinese character.
        counts.update(letters if letters.keys() & _UNSPACED else letters.keys())
    kana = sum(counts.pop(name, 0) for name in _KANA)
    counts["CJK"] += kana
    total = sum(counts.values())
    if not total:
        return ""
    name = max(sorted(counts), key=lambda key: counts[key])
    if counts[name] < _MIN_WRITING_SHARE * total:
        return ""
    return "KANA" if name == "CJK" and kana > 0.1 * counts[name] else name


def _letter_writing(letter: str) -> str:
    """Return the first word of a letter's Unicode name: ``LATIN``, ``CJK``, ``HIRAGANA``."""
    return unicodedata.name(letter, "").split(" ")[0].split("-")[0]


def _letters(text: str) -> list[str]:
    return [letter for letter in text if letter.isalpha()]


def _common_word_share(texts: Iterable[str], language: str) -> float:
    common = frozenset(_COMMON_WORDS.get(language, "").split())
    words = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", " ".join(texts).casefold())
    return sum(word in common for word in words) / max(len(words), 1)
