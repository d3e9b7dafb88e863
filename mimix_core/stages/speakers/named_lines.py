"""Lines of subtitles that name their speaker, as those for the hearing impaired often do."""

from __future__ import annotations

import re
from collections.abc import Mapping

_BRACKETED = re.compile(r"^\W*[\[(]\s*(?P<name>[^\])]+?)\s*[\])]\s*:?\s*(?P<words>.*)$")
_PREFIXED = re.compile(r"^[-–—‐\s]*(?P<name>[^:]{1,60}?)\s*:(?P<words>\s.*)?$")
_TURN = re.compile(r"(?:^|\s)[-–—‐]\s*(?=[^\W\d_]|[\[(¿¡\"“])")


def named_speaker(text: str, names: Mapping[str, str]) -> str:
    """Return the character that a line names as its speaker: ``Teddy: hello``, ``[Teddy] Hello``.

    Empty if it names none of ``names`` (names and aliases in lower case, as of ``alias_map``), says
    nothing beside the name, or has the words of two people.
    """
    if is_of_two(text):
        return ""
    for pattern in (_BRACKETED, _PREFIXED):
        found = pattern.match(text)
        if found is not None and (found["words"] or "").strip():
            name = names.get(" ".join(found["name"].split()).casefold(), "")
            if name:
                return name
    return ""


def is_of_two(text: str) -> bool:
    """Return whether a line has the words of two people: ``- Where is he? - At home.``"""
    turns = list(_TURN.finditer(text))
    return len(turns) > 1 and not text[: turns[0].start()].strip()
