"""Subtitle streams of text inside a video file; pictures of text (PGS, DVD, DVB) are not read."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pysubs2

from mimix_core.domain.language_codes import language
from mimix_core.engine import progress
from mimix_core.media import open_container
from mimix_core.stages.transcripts.dialogue import Line, flat, ordered
from mimix_core.stages.transcripts.subtitle_parser import UnreadableSubtitles

_TEXT_CODECS = {"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"}

_ASS_FIELDS = 8
"""Commas before the text of a dialogue line as FFmpeg gives it."""

_PACKETS_A_NEWS = 500


@dataclass(frozen=True)
class Embedded:
    """What a file's subtitle streams hold.

    ``lines`` is None when no stream can be used; then ``pictures`` and ``forced`` tell how many
    were left aside for being pictures of text, or signs only.
    """

    lines: list[Line] | None
    language: str = ""
    pictures: int = 0
    forced: int = 0


def read_embedded(path: Path, *, start: Fraction, preferred: str) -> Embedded:
    """The lines of the best text stream, on a clock that is 0 at ``start`` of the container's.

    Best is one in the ``preferred`` language, then one that is not made for those who do not hear,
    then the file's default, then the first. Forced streams translate signs and foreign words only:
    they are not the dialogue. Raises UnreadableVideo, UnreadableSubtitles.
    """
    with open_container(path) as container:
        streams = list(container.streams.subtitles)
        text = [s for s in streams if _codec(s) in _TEXT_CODECS]
        whole = [s for s in text if not _is(s, "forced")]
        pictures, forced = len(streams) - len(text), len(text) - len(whole)
        if not whole:
            return Embedded(None, pictures=pictures, forced=forced)
        best = min(whole, key=lambda stream: _rank(stream, preferred))
        lines = _lines(container, best, start)
        return Embedded(lines, language(best.language or ""), pictures, forced)


def _rank(stream: Any, preferred: str) -> tuple[bool, bool, bool, int]:
    """The smaller, the better."""
    return (
        bool(preferred) and language(stream.language or "") != language(preferred),
        _is(stream, "hearing_impaired"),
        not _is(stream, "default"),
        stream.index,
    )


def _lines(container: Any, stream: Any, start: Fraction) -> list[Line]:
    found = []
    try:
        for number, packet in enumerate(container.demux(stream)):
            if number % _PACKETS_A_NEWS == 0:
                progress.advance(number, 0, "subtitle packets read")
            if packet.pts is None:
                continue
            begin = packet.pts * Fraction(packet.time_base) - start
            end = begin + (packet.duration or 0) * Fraction(packet.time_base)
            found += [Line(begin, end, text) for text in _texts(packet)]
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise UnreadableSubtitles(
            f"the subtitle stream cannot be read ({type(error).__name__})"
        ) from error
    return ordered(found)


def _texts(packet: Any) -> list[str]:
    texts = []
    for rect in packet.decode():
        event = pysubs2.SSAEvent(text=rect.ass.decode("utf-8").split(",", _ASS_FIELDS)[-1])
        if not event.is_drawing:
            texts.append(flat(event.plaintext))
    return texts


def _codec(stream: Any) -> str:
    """FFmpeg's name of the stream's decoder; empty when it has none."""
    return "" if stream.codec_context is None else str(stream.codec_context.name)


def _is(stream: Any, disposition: str) -> bool:
    return bool(int(stream.disposition) & int(av.stream.Disposition[disposition]))
