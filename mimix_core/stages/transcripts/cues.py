"""Turn the cues of a subtitle file or stream into lines of dialogue, each spoken line once.

Captions made live or by speech recognition *roll*: each cue shows the last line again above the
new one (YouTube, CEA-608), or the same line with one more word. Signs that move are one cue a
frame, all with the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from mimix_core.stages.transcripts.dialogue import DialogueLine, clean_text, sort_lines

_SAME_CUE_GAP = Fraction(1, 100)
"""Seconds between cues with the same text that are one cue: people leave at least two frames."""

_ROLLING_GAP = Fraction(1, 20)
"""Seconds between cues that roll: at most a frame."""

_FLASH = Fraction(1, 20)
"""Duration in seconds of the cues that YouTube puts between two lines."""

_MIN_ROLLING_PAIRS = 2
_MIN_ROLLING_SHARE = Fraction(1, 5)


@dataclass(frozen=True)
class Cue:
    """The lines on screen from ``start`` to ``end`` seconds, without markup and empty lines."""

    start: Fraction
    end: Fraction
    lines: tuple[str, ...]


def build_cue(start: Fraction, end: Fraction, text: str) -> Cue:
    """Return the cue of a text without markup, with its lines cleaned."""
    lines = (clean_text(line) for line in text.split("\n"))
    return Cue(start, max(start, end), tuple(line for line in lines if line))


def lines_from_cues(cues: Iterable[Cue]) -> list[DialogueLine]:
    """Return the spoken lines in order; lines that are only shown again are not repeated."""
    ordered = sorted((cue for cue in cues if cue.lines), key=lambda cue: (cue.start, cue.end))
    spoken = _unroll(ordered) if _is_rolling(ordered) else [_joined(cue) for cue in ordered]
    return sort_lines(_merge_same_text(spoken))


def _joined(cue: Cue) -> DialogueLine:
    return DialogueLine(cue.start, cue.end, " ".join(cue.lines))


def _merge_same_text(lines: Sequence[DialogueLine]) -> list[DialogueLine]:
    """Merge lines of the same text of which one starts as the other ends, or before."""
    merged: list[DialogueLine] = []
    last: dict[str, int] = {}
    for line in lines:
        index = last.get(line.text)
        if index is not None and line.start - merged[index].end <= _SAME_CUE_GAP:
            earlier = merged[index]
            merged[index] = DialogueLine(earlier.start, max(earlier.end, line.end), line.text)
        else:
            last[line.text] = len(merged)
            merged.append(line)
    return merged


def _is_rolling(cues: Sequence[Cue]) -> bool:
    """Return whether cues carry lines of the cue before: a single pair is a coincidence."""
    pairs = sum(_follows(one, other) and _carries(one, other) for one, other in pairwise(cues))
    return pairs >= _MIN_ROLLING_PAIRS and pairs >= _MIN_ROLLING_SHARE * len(cues)


def _follows(one: Cue, other: Cue) -> bool:
    return other.start > one.start and abs(other.start - one.end) <= _ROLLING_GAP


def _carries(one: Cue, other: Cue) -> bool:
    if one.lines == other.lines:
        return min(one.end - one.start, other.end - other.start) <= _FLASH
    return _carried_lines(one.lines, other.lines) > 0


def _carried_lines(shown: Sequence[str], lines: Sequence[str]) -> int:
    """Return how many lines were shown before; the last of them may have grown by some words."""
    for start in range(len(shown)):
        carried = shown[start:]
        count = len(carried)
        if count <= len(lines) and (
            tuple(lines[: count - 1]) == tuple(carried[:-1])
            and f"{lines[count - 1]} ".startswith(f"{carried[-1]} ")
        ):
            return count
    return 0


def _unroll(cues: Sequence[Cue]) -> list[DialogueLine]:
    """Return each line once, from its first cue on; a line that grew is the longest one."""
    spoken: list[DialogueLine] = []
    before: Cue | None = None
    for cue in cues:
        carried = 0
        if before is not None and _follows(before, cue):
            carried = _carried_lines(before.lines, cue.lines)
        if carried:
            last = spoken[-1]
            grown = cue.lines[carried - 1].removeprefix(before.lines[-1]) if before else ""
            if grown or carried == len(cue.lines):
                spoken[-1] = DialogueLine(last.start, max(last.end, cue.end), last.text + grown)
        if carried < len(cue.lines):
            spoken.append(DialogueLine(cue.start, cue.end, " ".join(cue.lines[carried:])))
        before = cue
    return spoken
