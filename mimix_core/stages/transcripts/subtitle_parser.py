"""Parse subtitle files: .srt, .vtt, .ass and .ssa."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

import pysubs2

from mimix_core.errors import BadInput
from mimix_core.stages.transcripts.dialogue import (
    DialogueLine,
    clean_text,
    milliseconds_to_seconds,
    sort_lines,
)

_FORMATS = {"srt", "vtt", "ass", "ssa"}

_MAX_BYTES = 64 << 20

_ARROW = "-->"
"""Separates the two times of a cue."""

_HTML_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)

_NEGATIVE_TIME = re.compile(r"(?<![^\s,>])-\d+:\d+:\d+[.,]\d+")

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class UnreadableSubtitles(BadInput):
    """Existing subtitles cannot be read. ``what`` contains no path."""


@dataclass(frozen=True)
class SubtitleFile:
    """The lines of a subtitle file in order, and its encoding.

    ``invalid_cues``: number of cues skipped because their times are invalid.
    """

    lines: list[DialogueLine]
    encoding: str
    invalid_cues: int = 0


def read_subtitle_file(path: Path, fallback_encoding: str = "") -> SubtitleFile:
    """Read the lines of a subtitle file.

    A byte order mark selects UTF-8 or UTF-16; without one the file is UTF-8, or else in
    ``fallback_encoding`` (if that is empty, nothing else is tried). Raises UnreadableSubtitles.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _unreadable(path, f"larger than {_MAX_BYTES >> 20} MB")
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, str(error.strerror or type(error).__name__)) from error
    text, encoding = _decode(path, content, fallback_encoding)
    text = _normalize_for_pysubs2(text)
    try:
        subtitles = pysubs2.SSAFile.from_string(text)
    except pysubs2.exceptions.FormatAutodetectionError as error:
        why = "unknown format" if text.strip() else "it is empty"
        raise _unreadable(path, why) from error
    except (ValueError, ArithmeticError, pysubs2.exceptions.Pysubs2Error) as error:
        raise _unreadable(path, type(error).__name__) from error
    if subtitles.format not in _FORMATS:
        raise _unreadable(path, f"it is {subtitles.format}")
    lines = sort_lines(
        DialogueLine(
            milliseconds_to_seconds(event.start),
            milliseconds_to_seconds(event.end),
            clean_text(event.plaintext),
        )
        for event in subtitles
        if not event.is_comment and not event.is_drawing
    )
    cues = sum(_ARROW in line for line in text.split("\n"))
    has_cues = subtitles.format in ("srt", "vtt")
    return SubtitleFile(lines, encoding, max(0, cues - len(subtitles)) if has_cues else 0)


def _normalize_for_pysubs2(text: str) -> str:
    """Rewrite what pysubs2 misreads: old line ends, HTML line breaks and negative times.

    Of a negative time pysubs2 drops the sign; it becomes zero instead.
    """
    text = _HTML_BREAK.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n".join(
        _NEGATIVE_TIME.sub("00:00:00.000", line)
        if _ARROW in line or line.startswith("Dialogue:")
        else line
        for line in text.split("\n")
    )


def _decode(path: Path, content: bytes, fallback_encoding: str) -> tuple[str, str]:
    """Return the text and the encoding's name."""
    marked = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), None)
    names = [marked] if marked else ["utf-8", *([fallback_encoding] if fallback_encoding else [])]
    for name in names:
        try:
            return content.decode(name), name
        except UnicodeDecodeError as error:
            last = error
    raise _unreadable(path, f"not {' and not '.join(names)}: {last.reason}") from last


def _unreadable(path: Path, why: str) -> UnreadableSubtitles:
    return UnreadableSubtitles(
        f"not readable as subtitles ({why})",
        where=path.name,
        fix="Give an .srt, .vtt, .ass or .ssa file in UTF-8, or name its encoding in "
        "transcripts.fallback_encoding.",
    )
