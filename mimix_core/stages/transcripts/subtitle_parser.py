"""Parse subtitle files: .srt, .vtt, .ass and .ssa."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pysubs2

from mimix_core.errors import BadInput
from mimix_core.stages.transcripts.cues import Cue, build_cue, lines_from_cues
from mimix_core.stages.transcripts.dialogue import DialogueLine, milliseconds_to_seconds
from mimix_core.stages.transcripts.styled_events import StyledEvent, select_dialogue
from mimix_core.stages.transcripts.text_encoding import UndecodableText, decode_text

_STYLED_FORMATS = {"ass", "ssa"}

_MAX_BYTES = 64 << 20

_ARROW = "-->"
"""Separates the two times of a cue."""

_TIME = re.compile(r"(-?)(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?(?![\d:])")

_HTML_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)

_HTML_TAG = re.compile(r"< */? *[a-zA-Z][^>]*>")

_NEGATIVE_TIME = re.compile(r"(?<![^\s,>])-\d+:\d+:\d+[.,]\d+")


class UnreadableSubtitles(BadInput):
    """Existing subtitles cannot be read. ``what`` contains no path."""


@dataclass(frozen=True)
class SubtitleFile:
    """The lines of a subtitle file in order, and its encoding.

    ``invalid_cues``: number of cues skipped because their times are invalid. ``replaced_bytes``:
    bytes that are not in the encoding, each shown as U+FFFD. ``typesetting_events``: signs and
    songs in styled subtitles, which are not dialogue.
    """

    lines: list[DialogueLine]
    encoding: str
    invalid_cues: int = 0
    replaced_bytes: int = 0
    typesetting_events: int = 0


def read_subtitle_file(path: Path, fallback_encoding: str = "") -> SubtitleFile:
    """Read the lines of a subtitle file.

    UTF-8 and UTF-16 are recognized, with and without a byte order mark; other files are in
    ``fallback_encoding`` or, without one, in the encoding that is detected. Raises
    UnreadableSubtitles, which names the guesses when no encoding is certain.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _unreadable(path, f"larger than {_MAX_BYTES >> 20} MB")
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, str(error.strerror or type(error).__name__)) from error
    try:
        decoded = decode_text(content, fallback_encoding)
    except UndecodableText as error:
        raise _unreadable(path, str(error)) from error
    text = _HTML_BREAK.sub(" ", decoded.text.replace("\r\n", "\n").replace("\r", "\n"))
    styled = "[Script Info]" in text or "[V4" in text
    lines = text.split("\n")
    times = [] if styled else _find_times(lines)
    if times:
        cues = _read_cues(lines, times, webvtt=text.lstrip("\ufeff\n ").startswith("WEBVTT"))
        invalid = sum(_ARROW in line for line in lines) - len(times)
        return SubtitleFile(
            lines_from_cues(cues), decoded.encoding, invalid, decoded.replaced_bytes
        )
    events = _read_styled_events(path, text)
    spoken = select_dialogue(events)
    cues = [build_cue(e.start, e.end, _plain_text(e.text)) for e in spoken]
    return SubtitleFile(
        lines_from_cues(cues),
        decoded.encoding,
        replaced_bytes=decoded.replaced_bytes,
        typesetting_events=len(events) - len(spoken),
    )


def _find_times(lines: list[str]) -> list[tuple[int, Fraction, Fraction]]:
    """Return the line number, start and end of each cue."""
    found = []
    for number, line in enumerate(lines):
        if _ARROW in line:
            stamps = [_TIME.search(part) for part in line.split(_ARROW, 1)]
            if stamps[0] is not None and stamps[1] is not None:
                found.append((number, _parse_time(stamps[0]), _parse_time(stamps[1])))
    return found


def _parse_time(match: re.Match[str]) -> Fraction:
    sign, hours, minutes, seconds, fraction = match.groups()
    if sign:
        return Fraction(0)
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole + milliseconds_to_seconds(int((fraction or "0").ljust(3, "0")))


def _read_cues(
    lines: list[str], times: list[tuple[int, Fraction, Fraction]], *, webvtt: bool
) -> list[Cue]:
    """Read the cues of SubRip or WebVTT.

    Not done by pysubs2: it takes a last line that is a number for the next cue's number, reads two
    digits of the hours, and takes WebVTT's comments and cue identifiers for text.
    """
    ends = [number for number, _, _ in times[1:]] + [len(lines)]
    cues = []
    for (number, start, end), following in zip(times, ends, strict=True):
        body = lines[number + 1 : following]
        is_last = following == len(lines)
        if webvtt:
            body = _webvtt_text(body, is_last=is_last)
        elif is_last:
            body = _without_dangling_number(body, lines[number - 1] if number else "")
        else:
            body = _without_number(body)
        cues.append(build_cue(start, end, _plain_text("\n".join(body))))
    return cues


def _webvtt_text(body: list[str], *, is_last: bool) -> list[str]:
    """Return the lines up to the next empty line; comments and an identifier may follow it."""
    first = next((n for n, line in enumerate(body) if line), len(body))
    text = body[first:]
    is_comment = bool(text) and text[0].startswith("NOTE")
    is_identifier = "" not in text and not is_last
    if first and (is_comment or is_identifier):
        return []
    return text[: text.index("")] if "" in text else text


def _without_number(body: list[str]) -> list[str]:
    """Remove the number of the next cue, the last line before its times."""
    last = _count_without_empty_end(body)
    if not last or not body[last - 1].strip().isdecimal():
        return body
    # In a file without numbers an empty line comes after the text; in one with doubled line ends
    # there is one before the number too.
    doubled = last > 1 and not body[last - 2].strip()
    return body[: last - 1] if last == len(body) or doubled else body


def _without_dangling_number(body: list[str], own_number: str) -> list[str]:
    """Remove the number of a cue that a truncated file no longer has."""
    last = _count_without_empty_end(body)
    number = body[last - 1].strip() if last else ""
    follows = number.isdecimal() and own_number.strip().isdecimal()
    if follows and int(number) == int(own_number) + 1 and last > 1 and not body[last - 2].strip():
        return body[: last - 1]
    return body


def _count_without_empty_end(lines: list[str]) -> int:
    return next((n for n in range(len(lines), 0, -1) if lines[n - 1].strip()), 0)


def _plain_text(text: str) -> str:
    """Return a text without HTML tags and override tags."""
    return str(pysubs2.SSAEvent(text=_HTML_TAG.sub("", text)).plaintext)


def _read_styled_events(path: Path, text: str) -> list[StyledEvent]:
    """Read the events of ASS or SSA. Raises UnreadableSubtitles for any other format."""
    # pysubs2 drops the sign of a negative time.
    text = "\n".join(
        _NEGATIVE_TIME.sub("00:00:00.000", line) if line.startswith("Dialogue:") else line
        for line in text.split("\n")
    )
    try:
        subtitles = pysubs2.SSAFile.from_string(text)
    except pysubs2.exceptions.FormatAutodetectionError as error:
        why = "unknown format" if text.strip() else "it is empty"
        raise _unreadable(path, why) from error
    except (ValueError, ArithmeticError, pysubs2.exceptions.Pysubs2Error) as error:
        raise _unreadable(path, type(error).__name__) from error
    if subtitles.format not in _STYLED_FORMATS:
        raise _unreadable(path, f"it is {subtitles.format}")
    return [
        StyledEvent(
            milliseconds_to_seconds(event.start),
            milliseconds_to_seconds(event.end),
            event.text,
            event.style,
            event.effect,
        )
        for event in subtitles
        if not event.is_comment and not event.is_drawing
    ]


def _unreadable(path: Path, why: str) -> UnreadableSubtitles:
    return UnreadableSubtitles(
        f"not readable as subtitles ({why})",
        where=path.name,
        fix="Give an .srt, .vtt, .ass or .ssa file in UTF-8, or name its encoding in "
        "transcripts.fallback_encoding.",
    )
