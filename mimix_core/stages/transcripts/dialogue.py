"""Lines of dialogue on the episode's clock, and their selection for a clip."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from mimix_core.domain.timeline import clip_duration
from mimix_core.engine.text_escaping import is_control_character
from mimix_core.tables import ClipRow


@dataclass(frozen=True)
class TimedWord:
    """A word, from ``start`` to ``end`` seconds after the episode's first video frame."""

    start: Fraction
    end: Fraction
    text: str


@dataclass(frozen=True)
class DialogueLine:
    """A line of dialogue, from ``start`` to ``end`` seconds after the episode's first video frame.

    ``words``: its words with their times, or empty where these are unknown.
    """

    start: Fraction
    end: Fraction
    text: str
    words: tuple[TimedWord, ...] = ()


def milliseconds_to_seconds(value: int) -> Fraction:
    """Convert integer milliseconds to exact seconds."""
    return Fraction(value, 1000)


def sort_lines(lines: Iterable[DialogueLine]) -> list[DialogueLine]:
    """Sort lines by time, without empty and duplicate ones (styled subtitles repeat lines).

    Lines of the same times stay in the given order.
    The end of a line that ends before its start is set to its start.
    """
    unique = {
        replace(line, end=max(line.start, line.end)): None for line in lines if line.text.strip()
    }
    return sorted(unique, key=lambda line: (line.start, line.end))


_INLINE_TIME = re.compile(r"<\d[\d:.]*>")


def clean_text(text: str) -> str:
    """Put text on one line, remove inline times and control characters, decode HTML entities.

    Notes for the hearing impaired ([DOOR SLAMS], music signs) remain: they say what happens.
    """
    line = " ".join(html.unescape(_INLINE_TIME.sub("", text)).split())
    if line.isprintable():
        return line
    return " ".join("".join(c for c in line if not is_control_character(c)).split())


def select_clip_lines(clip: ClipRow, lines: Sequence[DialogueLine]) -> list[DialogueLine]:
    """Select the lines audible in a clip, for however short a time, cut to the clip's ends.

    Times are relative to g_0, where the clip's audio starts too; the frame shown then may be older.
    Where the times of words are known, a line's text consists of the words with their middle in the
    clip: a word is in one of two consecutive clips, never in both.
    """
    start = Fraction(clip["start_num"], clip["start_den"]) - episode_start_seconds(clip)
    duration = clip_duration(clip["frames"], Fraction(clip["rate_num"], clip["rate_den"]))

    def to_clip_time(time: Fraction) -> Fraction:
        return min(max(time - start, Fraction(0)), duration)

    selected = []
    for line in lines:
        if line.start >= start + duration or line.end <= start:
            continue
        words = tuple(
            TimedWord(to_clip_time(word.start), to_clip_time(word.end), word.text)
            for word in line.words
            if start <= (word.start + word.end) / 2 < start + duration
        )
        if line.words and not words:
            continue
        text = " ".join(word.text for word in words) if words else line.text
        selected.append(DialogueLine(to_clip_time(line.start), to_clip_time(line.end), text, words))
    return selected


def episode_start_seconds(clip: ClipRow) -> Fraction:
    """Return the time of the episode's first frame, in seconds of the container's clock."""
    return Fraction(clip["origin_pts"] * clip["time_base_num"], clip["time_base_den"])
