"""Find the lines with the times of cues in SubRip and WebVTT, as people and programs write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

_STAMP = r"-?\s?(?:\d{1,6}\s?:\s?)?\d{1,2}\s?:\s?\d{1,2}(?:\s?[.,]\s?\d{1,9})?(?![\d:])"

_ARROW = "(?:-{1,3}\\s?(?:>|&gt;)|[\u2013\u2014\u2212]\\s?>|=>|\u2192|\u21d2)"

_TIMES = re.compile(rf"^\s*(?:\d+\s+)?({_STAMP})\s*{_ARROW}\s*({_STAMP})")

_INVALID_TIMES = re.compile(rf"^(?=.*\d\s?:\s?[\d-]).*{_ARROW}")
"""A line that has an arrow and times, of which one cannot be read."""

_PARTS = re.compile(r"(-?)(?:(\d+):)?(\d+):(\d+)(?:[.,](\d+))?")


@dataclass(frozen=True)
class CueTimes:
    """Start and end of a cue in seconds, and the number of the line that states them."""

    line: int
    start: Fraction
    end: Fraction
    valid: bool = True


def find_cue_times(lines: Sequence[str]) -> list[CueTimes]:
    """Return the times of each cue; those that cannot be read are there too, as not valid."""
    found = []
    for number, line in enumerate(lines):
        match = _TIMES.match(line)
        if match is not None:
            found.append(CueTimes(number, parse_stamp(match[1]), parse_stamp(match[2])))
        elif ("-->" in line or "--&gt;" in line) and _INVALID_TIMES.match(line):
            found.append(CueTimes(number, Fraction(0), Fraction(0), valid=False))
    return found


def parse_stamp(text: str) -> Fraction:
    """Return the seconds of ``[hours:]minutes:seconds[.fraction]``; zero for a negative time.

    Hours have any number of digits. Raises ValueError for any other text.
    """
    match = _PARTS.fullmatch("".join(text.split()))
    if match is None:
        raise ValueError(f"{text!r} is not a time")
    sign, hours, minutes, seconds, fraction = match.groups()
    if sign:
        return Fraction(0)
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole + Fraction(int(fraction or 0), 10 ** len(fraction or ""))
