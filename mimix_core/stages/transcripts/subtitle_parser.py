"""Subtitle files beside a video: .srt, .vtt, .ass and .ssa."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

import pysubs2

from mimix_core.errors import BadInput
from mimix_core.stages.transcripts.dialogue import Line, flat, milliseconds, ordered

_FORMATS = {"srt", "vtt", "ass", "ssa"}

_MAX_BYTES = 64 << 20

_ARROW = "-->"
"""Between the two times of a cue."""

_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)

_BELOW_ZERO = re.compile(r"(?<![^\s,>])-\d+:\d+:\d+[.,]\d+")

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class UnreadableSubtitles(BadInput):
    """Subtitles that are there and cannot be read. ``what`` holds no path."""


@dataclass(frozen=True)
class Subtitles:
    """Lines in order, and the encoding that their file turned out to have.

    ``unread``: so many cues have times that are none.
    """

    lines: list[Line]
    encoding: str
    unread: int = 0


def read_subtitles(path: Path, fallback: str = "") -> Subtitles:
    """The lines of a subtitle file.

    A byte order mark says UTF-8 or UTF-16; without one the file is UTF-8, or else in the encoding
    that ``fallback`` names (none: nothing else is tried). Raises UnreadableSubtitles.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _unreadable(path, f"larger than {_MAX_BYTES >> 20} MB")
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, str(error.strerror or type(error).__name__)) from error
    text, encoding = _decoded(path, content, fallback)
    text = _plain(text)
    try:
        found = pysubs2.SSAFile.from_string(text)
    except pysubs2.exceptions.FormatAutodetectionError as error:
        raise _unreadable(path, "it looks like none" if text.strip() else "it is empty") from error
    except (ValueError, ArithmeticError, pysubs2.exceptions.Pysubs2Error) as error:
        raise _unreadable(path, type(error).__name__) from error
    if found.format not in _FORMATS:
        raise _unreadable(path, f"it is {found.format}")
    lines = ordered(
        Line(milliseconds(event.start), milliseconds(event.end), flat(event.plaintext))
        for event in found
        if not event.is_comment and not event.is_drawing
    )
    cues = sum(_ARROW in line for line in text.split("\n"))
    timed = found.format in ("srt", "vtt")
    return Subtitles(lines, encoding, max(0, cues - len(found)) if timed else 0)


def _plain(text: str) -> str:
    """What pysubs2 would misread, in other words: old line ends, line breaks of HTML, and times
    below zero, of which it drops the sign."""
    text = _BREAK.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n".join(
        _BELOW_ZERO.sub("00:00:00.000", line)
        if _ARROW in line or line.startswith("Dialogue:")
        else line
        for line in text.split("\n")
    )


def _decoded(path: Path, content: bytes, fallback: str) -> tuple[str, str]:
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    names = [marked] if marked else ["utf-8", *([fallback] if fallback else [])]
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
