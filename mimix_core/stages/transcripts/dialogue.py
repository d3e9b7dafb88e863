"""Lines of dialogue on the episode's clock, and what of them is heard in a clip."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from mimix_core.domain.timeline import clip_duration
from mimix_core.tables import Row


@dataclass(frozen=True)
class Word:
    """A word, from ``start`` to ``end`` seconds after the episode's first video frame."""

    start: Fraction
    end: Fraction
    text: str


@dataclass(frozen=True)
class Line:
    """Something said, from ``start`` to ``end`` seconds after the episode's first video frame.

    ``words`` are its words with their times, where they are known.
    """

    start: Fraction
    end: Fraction
    text: str
    words: tuple[Word, ...] = ()


def milliseconds(value: int) -> Fraction:
    """Seconds of whole milliseconds."""
    return Fraction(value, 1000)


def ordered(lines: Iterable[Line]) -> list[Line]:
    """Lines with text by their times, each once (layers of styled subtitles say the same thing).

    A line that ends before it starts ends where it starts.
    """
    kept = {
        replace(line, end=max(line.start, line.end)): None for line in lines if line.text.strip()
    }
    return sorted(kept, key=lambda line: (line.start, line.end, line.text))


_INLINE_TIME = re.compile(r"<\d[\d:.]*>")


def flat(text: str) -> str:
    """Text on one line, without WebVTT's inline times, entities written out. All else is kept.

    Notes for those who do not hear ([DOOR SLAMS], music signs) are kept: they say what happens.
    """
    return " ".join(html.unescape(_INLINE_TIME.sub("", text)).split())


def spoken(clip: Row, lines: Sequence[Line]) -> list[Line]:
    """The lines heard in a clip, however short, with times of its own play, cut to its ends.

    It plays from g_0 on, as its sound does; the frame shown then may be from before.

    Where the words of a line are known, its text is those that are in the clip: by their middle, so
    that of two clips that follow each other one has a word, and not both.
    """
    start = Fraction(clip["start_num"], clip["start_den"]) - episode_start(clip)
    duration = clip_duration(clip["frames"], Fraction(clip["rate_num"], clip["rate_den"]))

    def inside(time: Fraction) -> Fraction:
        return min(max(time - start, Fraction(0)), duration)

    heard = []
    for line in lines:
        if line.start >= start + duration or line.end <= start:
            continue
        words = tuple(
            Word(inside(word.start), inside(word.end), word.text)
            for word in line.words
            if start <= (word.start + word.end) / 2 < start + duration
        )
        if line.words and not words:
            continue
        text = " ".join(word.text for word in words) if words else line.text
        heard.append(Line(inside(line.start), inside(line.end), text, words))
    return heard


def episode_start(clip: Row) -> Fraction:
    """When the episode's first frame is shown, in seconds of the container's clock."""
    return Fraction(clip["origin_pts"] * clip["time_base_num"], clip["time_base_den"])
