"""Parse subtitle files: .srt, .vtt, .ass and .ssa."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mimix_core.errors import BadInput
from mimix_core.stages.transcripts.bilingual import StyledCue, select_language
from mimix_core.stages.transcripts.cues import Cue, build_cue, lines_from_cues
from mimix_core.stages.transcripts.dialogue import DialogueLine
from mimix_core.stages.transcripts.override_tags import plain_text
from mimix_core.stages.transcripts.styled_events import parse_styled_events, select_dialogue
from mimix_core.stages.transcripts.subtitle_times import CueTimes, find_cue_times
from mimix_core.stages.transcripts.text_encoding import DecodedText, UndecodableText, decode_text

_MAX_BYTES = 64 << 20

_STYLED = re.compile(
    r"^[^\S\n]*\[(?:script info|v4\+? styles|events)\]", re.IGNORECASE | re.MULTILINE
)
"""A section of ASS or SSA."""

_MAX_DIGITS = 18
"""Number of digits of a cue's number."""

_HTML_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)

_HTML_TAG = re.compile(r"<rt>.{0,200}?</rt>|< *+/? *+[a-zA-Z][^>]*>", re.IGNORECASE)
"""A tag; of ruby text, which says how a word is read, all is left out."""

_OTHER_FORMATS = {
    "LRC (lyrics)": r"^\[\d+:\d\d(?:[.:]\d+)?\]",
    "SAMI": r"<sami\b|<sync\s+start",
    "MicroDVD, which counts frames": r"^\{\d+\}\{\d*\}",
    "MPL2": r"^\[\d+\]\[\d*\]",
    "TTML": r"<(?:\w+:)?tt\b",
    "SubViewer or SBV": r"^\d+:\d\d:\d\d\.\d+,\d+:\d\d:\d\d\.\d+",
    "TMPlayer": r"^\d{1,2}:\d\d:\d\d[:=]",
    "VobSub, images of text": r"^# VobSub",
    "a web page": r"<!doctype html|<html\b",
    "JSON": r"\A\s*[{\[]\s*[\"{]",
}
"""How formats that are not read are told, to name them."""


class UnreadableSubtitles(BadInput):
    """Existing subtitles cannot be read. ``what`` contains no path."""


@dataclass(frozen=True)
class SubtitleFile:
    """The lines of a subtitle file in order, and its encoding.

    ``invalid_cues``: number of cues skipped because their times are invalid. ``replaced_bytes``:
    bytes that are not in the encoding, each shown as U+FFFD. ``typesetting_events``: signs and
    songs in styled subtitles, which are not dialogue. ``other_language_lines``: lines left out of
    subtitles in two languages.
    """

    lines: list[DialogueLine]
    encoding: str
    invalid_cues: int = 0
    replaced_bytes: int = 0
    typesetting_events: int = 0
    other_language_lines: int = 0


def read_subtitle_file(path: Path, fallback_encoding: str = "", language: str = "") -> SubtitleFile:
    """Read the lines of a subtitle file; of one in two languages, those in ``language``.

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
    text = decoded.text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
    text = _HTML_BREAK.sub(" ", text)
    if _STYLED.search(text):
        return _read_styled(text, decoded, language)
    lines = text.split("\n")
    times = find_cue_times(lines)
    if not any(cue.valid for cue in times):
        raise _other_format(path, text)
    cues = _read_cues(lines, times, webvtt=text.lstrip().startswith("WEBVTT"))
    selected, left_out = select_language([StyledCue(cue) for cue in cues], language)
    return SubtitleFile(
        lines_from_cues(selected),
        decoded.encoding,
        sum(not cue.valid for cue in times),
        decoded.replaced_bytes,
        other_language_lines=left_out,
    )


def _read_styled(text: str, decoded: DecodedText, language: str) -> SubtitleFile:
    events, invalid = parse_styled_events(text)
    spoken = select_dialogue(events)
    cues, left_out = select_language(
        [StyledCue(build_cue(e.start, e.end, _plain_text(e.text)), e.style) for e in spoken],
        language,
    )
    return SubtitleFile(
        lines_from_cues(cues),
        decoded.encoding,
        invalid,
        decoded.replaced_bytes,
        typesetting_events=len(events) - len(spoken),
        other_language_lines=left_out,
    )


def _read_cues(lines: list[str], times: list[CueTimes], *, webvtt: bool) -> list[Cue]:
    """Read the cues of SubRip or WebVTT.

    Not done by pysubs2: it takes a last line that is a number for the next cue's number, reads two
    digits of the hours, and takes WebVTT's comments and cue identifiers for text.
    """
    ends = [cue.line for cue in times[1:]] + [len(lines)]
    cues = []
    for cue, following in zip(times, ends, strict=True):
        if not cue.valid:
            continue
        number = cue.line
        body = lines[number + 1 : following]
        is_last = following == len(lines)
        if webvtt:
            body = _webvtt_text(body, is_last=is_last)
        elif is_last:
            body = _without_dangling_number(body, lines[number - 1] if number else "")
        else:
            body = _without_number(body)
        cues.append(build_cue(cue.start, cue.end, _plain_text("\n".join(body))))
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
    own = own_number.strip()
    follows = number.isdecimal() and own.isdecimal() and max(len(number), len(own)) <= _MAX_DIGITS
    if follows and int(number) == int(own) + 1 and last > 1 and not body[last - 2].strip():
        return body[: last - 1]
    return body


def _count_without_empty_end(lines: list[str]) -> int:
    return next((n for n in range(len(lines), 0, -1) if lines[n - 1].strip()), 0)


def _plain_text(text: str) -> str:
    """Return a text without HTML tags and override tags."""
    # What follows the last bracket has no tag; to search it for one would take quadratic time.
    tagged, bracket, rest = text.rpartition(">")
    return plain_text(_HTML_TAG.sub("", tagged + bracket) + rest)


def _other_format(path: Path, text: str) -> UnreadableSubtitles:
    """Return the error for a text without cues, with the name of its format."""
    found = (
        name
        for name, pattern in _OTHER_FORMATS.items()
        if re.search(pattern, text, re.IGNORECASE | re.MULTILINE)
    )
    name = next(found, "")
    if not name:
        why = "it has no cue with times" if text.strip() else "it is empty"
        return _unreadable(path, why)
    return UnreadableSubtitles(
        f"not readable as subtitles (it is {name})",
        where=path.name,
        fix="Convert it to .srt, .vtt or .ass.",
    )


def _unreadable(path: Path, why: str) -> UnreadableSubtitles:
    return UnreadableSubtitles(
        f"not readable as subtitles ({why})",
        where=path.name,
        fix="Give an .srt, .vtt, .ass or .ssa file in UTF-8, or name its encoding in "
        "transcripts.fallback_encoding.",
    )
