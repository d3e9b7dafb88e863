"""Read the override tags in the text of styled subtitles: ``{\\i1}``, ``{\\p1}``, ``\\N``.

Not done by pysubs2's SSAEvent, whose time and memory grow with the square of a text's length: one
line of a hostile file would take gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pysubs2

_DRAWING_OR_RESET = re.compile(r"\\p([0-9])|\\r(?![a-zA-Z_0-9 ])")


def plain_text(text: str) -> str:
    """Return a text without override tags, and with line breaks for ``\\N``."""
    tagged, brace, rest = text.rpartition("}")
    text = pysubs2.SSAEvent.OVERRIDE_SEQUENCE.sub("", tagged + brace) + rest
    return text.replace(r"\h", " ").replace(r"\n", "\n").replace(r"\N", "\n")


def is_drawing(text: str) -> bool:
    """Return whether a text draws shapes after one of its groups of override tags."""
    scale = 0
    for group in _groups(text):
        for tag in _DRAWING_OR_RESET.finditer(group):
            scale = int(tag[1] or 0)
        if scale:
            return True
    return False


def _groups(text: str) -> Iterator[str]:
    """Yield each group of override tags with its braces."""
    # Nothing after the last brace is one; to search it would take quadratic time.
    closed = text[: text.rfind("}") + 1]
    return (found[0] for found in pysubs2.SSAEvent.OVERRIDE_SEQUENCE.finditer(closed))
