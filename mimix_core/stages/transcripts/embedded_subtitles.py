"""Read text subtitle streams of a video file; image subtitles (PGS, DVD, DVB) are skipped."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pysubs2

from mimix_core.domain.language_codes import normalize_language_code
from mimix_core.engine import progress
from mimix_core.media import open_container
from mimix_core.stages.transcripts.dialogue import DialogueLine, clean_text, sort_lines
from mimix_core.stages.transcripts.subtitle_parser import UnreadableSubtitles

_TEXT_CODECS = {"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"}

_ASS_FIELDS = 8
"""Commas before the text of a dialogue line in FFmpeg's output."""

_PACKETS_PER_REPORT = 500


@dataclass(frozen=True)
class EmbeddedSubtitles:
    """The lines of a file's best subtitle stream.

    ``lines``: None when no stream is usable. ``image_streams`` and ``forced_streams``: numbers of
    streams skipped because they hold images of text, or only signs and foreign words.
    """

    lines: list[DialogueLine] | None
    language: str = ""
    image_streams: int = 0
    forced_streams: int = 0


def read_embedded_subtitles(
    path: Path, *, start: Fraction, preferred_language: str
) -> EmbeddedSubtitles:
    """Read the lines of the best text stream.

    ``start``: zero of the returned times, in seconds of the container's clock. Streams in
    ``preferred_language`` come first, then streams not made for the hearing impaired, then the
    file's default stream, then the order in the file. Forced streams are not the dialogue: they
    translate signs and foreign words only. Raises UnreadableVideo, UnreadableSubtitles.
    """
    with open_container(path) as container:
        streams = list(container.streams.subtitles)
        text_streams = [s for s in streams if _codec_name(s) in _TEXT_CODECS]
        usable = [s for s in text_streams if not _has_disposition(s, "forced")]
        image_count = len(streams) - len(text_streams)
        forced_count = len(text_streams) - len(usable)
        if not usable:
            return EmbeddedSubtitles(None, image_streams=image_count, forced_streams=forced_count)
        best = min(usable, key=lambda stream: _rank(stream, preferred_language))
        lines = _read_lines(container, best, start)
        language = normalize_language_code(best.language or "")
        return EmbeddedSubtitles(lines, language, image_count, forced_count)


def _rank(stream: Any, preferred_language: str) -> tuple[bool, bool, bool, int]:
    """Return the sort key of a stream; the lowest is the best."""
    language = normalize_language_code(stream.language or "")
    return (
        bool(preferred_language) and language != normalize_language_code(preferred_language),
        _has_disposition(stream, "hearing_impaired"),
        not _has_disposition(stream, "default"),
        stream.index,
    )


def _read_lines(container: Any, stream: Any, start: Fraction) -> list[DialogueLine]:
    lines = []
    try:
        for number, packet in enumerate(container.demux(stream)):
            if number % _PACKETS_PER_REPORT == 0:
                progress.report_progress(number, 0, "subtitle packets read")
            if packet.pts is None:
                continue
            begin = packet.pts * Fraction(packet.time_base) - start
            end = begin + (packet.duration or 0) * Fraction(packet.time_base)
            lines += [DialogueLine(begin, end, text) for text in _packet_texts(packet)]
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise UnreadableSubtitles(
            f"the subtitle stream cannot be read ({type(error).__name__})"
        ) from error
    return sort_lines(lines)


def _packet_texts(packet: Any) -> list[str]:
    texts = []
    for rect in packet.decode():
        event = pysubs2.SSAEvent(text=rect.ass.decode("utf-8").split(",", _ASS_FIELDS)[-1])
        if not event.is_drawing:
            texts.append(clean_text(event.plaintext))
    return texts


def _codec_name(stream: Any) -> str:
    """Return FFmpeg's name of the stream's decoder, or ``""`` without one."""
    return "" if stream.codec_context is None else str(stream.codec_context.name)


def _has_disposition(stream: Any, disposition: str) -> bool:
    return bool(int(stream.disposition) & int(av.stream.Disposition[disposition]))
