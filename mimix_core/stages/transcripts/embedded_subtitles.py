"""Read text subtitle streams of a video file; image subtitles (PGS, DVD, DVB) are skipped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from mimix_core.domain.language_codes import find_language_name, normalize_language_code
from mimix_core.engine import progress
from mimix_core.media import open_container
from mimix_core.stages.transcripts.bilingual import StyledCue, select_language
from mimix_core.stages.transcripts.cues import build_cue, lines_from_cues
from mimix_core.stages.transcripts.dialogue import DialogueLine
from mimix_core.stages.transcripts.override_tags import is_drawing, plain_text
from mimix_core.stages.transcripts.styled_events import StyledEvent, select_dialogue
from mimix_core.stages.transcripts.subtitle_parser import UnreadableSubtitles

_TEXT_CODECS = {"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"}

_ASS_FIELDS = 8
"""Commas before the text of a dialogue line in FFmpeg's output."""

_PACKETS_PER_REPORT = 500


_STYLE, _EFFECT = 2, 7
"""Fields of a dialogue line in FFmpeg's output, beside its text."""

_PARTIAL_TITLE = re.compile(
    r"\b(signs?|songs?|forced|foreign|karaoke|lyrics|titles only|schilder|forcés?|forzados?)\b",
    re.IGNORECASE,
)
"""In the title of a stream that translates signs and songs only."""

_FULL_TITLE = re.compile(
    r"\b(full|dialogues?|complete|voll|vollständig|complets?)\b", re.IGNORECASE
)

_COMMENTARY_TITLE = re.compile(
    r"\b(commentary|comments?|commentaires?|comentarios?|kommentare?|trivia|director)",
    re.IGNORECASE,
)

_HEARING_IMPAIRED_TITLE = re.compile(r"\b(sdh|cc|hi|hearing.impaired)\b", re.IGNORECASE)

_MIN_FULL_SHARE = Fraction(1, 2)
"""A stream with less of the dialogue than this share of the fullest one is of signs only."""


@dataclass(frozen=True)
class EmbeddedSubtitles:
    """The lines of a file's best subtitle stream.

    ``lines``: None when no stream is usable. ``image_streams``, ``forced_streams`` and
    ``other_streams``: numbers of streams skipped because they hold images of text, only signs and
    foreign words, or commentary. ``typesetting_events``: signs and songs in the stream that was
    read. ``other_language_lines``: lines left out of a stream in two languages.
    """

    lines: list[DialogueLine] | None
    language: str = ""
    image_streams: int = 0
    forced_streams: int = 0
    other_streams: int = 0
    typesetting_events: int = 0
    other_language_lines: int = 0


@dataclass(frozen=True)
class _StreamText:
    """What a stream says. ``characters``: of its dialogue."""

    stream: Any
    lines: list[DialogueLine]
    typesetting_events: int
    other_language_lines: int

    @property
    def characters(self) -> int:
        return sum(len(line.text) for line in self.lines)


def read_embedded_subtitles(
    path: Path, *, start: Fraction, preferred_language: str
) -> EmbeddedSubtitles:
    """Read the lines of the best text stream.

    ``start``: zero of the returned times, in seconds of the container's clock. Streams in
    ``preferred_language`` come first, then streams that hold the full dialogue, by their title and
    by how much they say, then streams not made for the hearing impaired, then the file's default
    stream, then the order in the file. Forced streams, signs and commentary are not the dialogue.
    Raises UnreadableVideo, UnreadableSubtitles.
    """
    with open_container(path) as container:
        streams = list(container.streams.subtitles)
        text_streams = [s for s in streams if _codec_name(s) in _TEXT_CODECS]
        not_forced = [s for s in text_streams if not _has_disposition(s, "forced")]
        usable = [s for s in not_forced if not _is_other_than_dialogue(s)]
        skipped = EmbeddedSubtitles(
            lines=None,
            image_streams=len(streams) - len(text_streams),
            forced_streams=len(text_streams) - len(not_forced),
            other_streams=len(not_forced) - len(usable),
        )
        if not usable:
            return skipped
        preferred = normalize_language_code(preferred_language)
        texts = _read_streams(container, usable, start, preferred)
    best = _best_stream(texts, preferred)
    return replace(
        skipped,
        lines=best.lines,
        language=preferred if best.other_language_lines else _language(best.stream),
        typesetting_events=best.typesetting_events,
        other_language_lines=best.other_language_lines,
    )


def _is_other_than_dialogue(stream: Any) -> bool:
    """Return whether a stream's title or dispositions say that it is signs, songs or commentary."""
    title = str(stream.metadata.get("title", ""))
    if any(_has_disposition(stream, name) for name in ("comment", "lyrics", "karaoke")):
        return True
    if _COMMENTARY_TITLE.search(title):
        return True
    return bool(_PARTIAL_TITLE.search(title)) and not _FULL_TITLE.search(title)


def _best_stream(texts: Sequence[_StreamText], preferred: str) -> _StreamText:
    """Return the best of the streams; one that says much less than the others is not complete."""
    most_lines = max(len(text.lines) for text in texts)
    most_characters: dict[str, int] = {}
    for text in texts:
        language = _language(text.stream)
        most_characters[language] = max(most_characters.get(language, 0), text.characters)

    def rank(text: _StreamText) -> tuple[bool, bool, bool, bool, int]:
        language, stream = _language(text.stream), text.stream
        return (
            bool(preferred) and language != preferred,
            len(text.lines) < _MIN_FULL_SHARE * most_lines
            or text.characters < _MIN_FULL_SHARE * most_characters[language],
            _has_disposition(stream, "hearing_impaired")
            or bool(_HEARING_IMPAIRED_TITLE.search(str(stream.metadata.get("title", "")))),
            not _has_disposition(stream, "default"),
            stream.index,
        )

    return min(texts, key=rank)


def _language(stream: Any) -> str:
    """Return a stream's language, from its tag or else from its title (``English (Full)``)."""
    return normalize_language_code(stream.language or "") or find_language_name(
        str(stream.metadata.get("title", ""))
    )


def _read_streams(
    container: Any, streams: Sequence[Any], start: Fraction, preferred: str
) -> list[_StreamText]:
    """Read several streams in one pass over the file."""
    events: dict[int, list[StyledEvent]] = {stream.index: [] for stream in streams}
    try:
        for number, packet in enumerate(container.demux(streams)):
            if number % _PACKETS_PER_REPORT == 0:
                progress.report_progress(number, 0, "subtitle packets read")
            if packet.pts is None:
                continue
            begin = packet.pts * Fraction(packet.time_base) - start
            end = begin + (packet.duration or 0) * Fraction(packet.time_base)
            events[packet.stream.index] += _packet_events(packet, begin, end)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise UnreadableSubtitles(
            f"the subtitle stream cannot be read ({type(error).__name__})"
        ) from error
    texts = []
    for stream in streams:
        found = events[stream.index]
        spoken = select_dialogue(found)
        styled = [StyledCue(build_cue(e.start, e.end, plain_text(e.text)), e.style) for e in spoken]
        cues, left_out = select_language(styled, preferred)
        texts.append(_StreamText(stream, lines_from_cues(cues), len(found) - len(spoken), left_out))
    return texts


def _packet_events(packet: Any, begin: Fraction, end: Fraction) -> list[StyledEvent]:
    events = []
    for rect in packet.decode():
        fields = rect.ass.decode("utf-8").split(",", _ASS_FIELDS)
        if not is_drawing(fields[-1]):
            events.append(StyledEvent(begin, end, fields[-1], fields[_STYLE], fields[_EFFECT]))
    return events


def _codec_name(stream: Any) -> str:
    """Return FFmpeg's name of the stream's decoder, or ``""`` without one."""
    return "" if stream.codec_context is None else str(stream.codec_context.name)


def _has_disposition(stream: Any, disposition: str) -> bool:
    return bool(int(stream.disposition) & int(av.stream.Disposition[disposition]))
