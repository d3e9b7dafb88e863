"""Read the events of styled subtitles (ASS and SSA), and tell dialogue from typesetting.

Such files translate signs and songs too: a sign that moves is one event a frame, a song one event
a syllable and layer. They are told by style name, effect, karaoke tags and placement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

from mimix_core.stages.transcripts.override_tags import is_drawing
from mimix_core.stages.transcripts.subtitle_times import parse_stamp


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STYLE_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_TYPESETTING_STYLES = _word_set(
    "sign signs typeset typesetting opening ending karaoke kara romaji kanji song songs lyric "
    "lyrics insert credit credits eyecatch staff logo titlecard ts"
)

_SONG_STYLES = frozenset(("OP", "ED"))
"""Opening and ending; only in capitals, since Ed is a name as well."""

_TYPESETTING_EFFECTS = re.compile(
    r"\b(fx|karaoke|kara|template|code)\b|^\s*(banner|scroll)", re.IGNORECASE
)

_KARAOKE_TAG = re.compile(r"\\k[fo]?\d|\\K\d")
_POSITION_TAG = re.compile(r"\\(?:pos|move|org|i?clip|t)\s*\(|\\fr[xyz]?-?\d")
_MOTION_TAG = re.compile(r"\\(?:move|org|i?clip|t)\s*\(|\\fr[xyz]?-?\d")

_MIN_PLAIN_SHARE = Fraction(1, 4)
"""With more plain texts than this for each placed one, the placed ones are signs."""

_MIN_SPOKEN_SECONDS = Fraction(7, 10)
"""Shortest usual duration of captions that are all placed, as converters of broadcasts do."""


@dataclass(frozen=True)
class StyledEvent:
    """An event with its override tags; times in seconds."""

    start: Fraction
    end: Fraction
    text: str
    style: str
    effect: str


_DEFAULT_FIELDS = "Layer,Start,End,Style,Name,MarginL,MarginR,MarginV,Effect,Text"
_BINARY_SECTIONS = ("fonts", "graphics")


def parse_styled_events(text: str) -> tuple[list[StyledEvent], int]:
    """Return the events of a file, and how many cannot be read.

    Not done by pysubs2: it refuses a file with hours of three digits or other fields than usual.
    """
    events: list[StyledEvent] = []
    invalid, section = 0, ""
    fields = _DEFAULT_FIELDS.casefold().split(",")
    for line in text.split("\n"):
        kind, _, value = line.strip().partition(":")
        if kind.startswith("[") and kind.endswith("]"):
            section = kind[1:-1].casefold()
        elif section == "events" and kind.casefold() == "format":
            fields = [name.strip().casefold() for name in value.split(",")]
        elif section not in _BINARY_SECTIONS and kind.casefold() == "dialogue":
            parts = value.split(",", len(fields) - 1)
            try:
                event = _event(dict(zip(fields, parts, strict=True)))
            except (KeyError, ValueError):
                invalid += 1
                continue
            if not is_drawing(event.text):
                events.append(event)
    return events, invalid


def _event(values: Mapping[str, str]) -> StyledEvent:
    """Raises KeyError or ValueError for an event without text or valid times."""
    start, end = parse_stamp(values["start"]), parse_stamp(values["end"])
    style, effect = values.get("style", "").strip(), values.get("effect", "").strip()
    return StyledEvent(start, end, values["text"], style, effect)


def select_dialogue(events: Sequence[StyledEvent]) -> list[StyledEvent]:
    """Return the events that are dialogue."""
    candidates = [event for event in events if not _is_marked_as_typesetting(event)]
    plain = [event for event in candidates if not _POSITION_TAG.search(event.text)]
    placed = [event for event in candidates if _POSITION_TAG.search(event.text)]
    if not placed or _distinct(plain) > _MIN_PLAIN_SHARE * _distinct(placed):
        return plain
    # Nearly everything is placed: captions converted from a broadcast, or a file of signs only.
    still = [event for event in placed if not _MOTION_TAG.search(event.text)]
    if still and median(event.end - event.start for event in still) >= _MIN_SPOKEN_SECONDS:
        return plain + still
    return plain


def _is_marked_as_typesetting(event: StyledEvent) -> bool:
    words = _STYLE_WORD.findall(event.style)
    return bool(
        {word.casefold() for word in words} & _TYPESETTING_STYLES
        or set(words) & _SONG_STYLES
        or _TYPESETTING_EFFECTS.search(event.effect)
        or _KARAOKE_TAG.search(event.text)
    )


def _distinct(events: Sequence[StyledEvent]) -> int:
    return len({event.text for event in events})
