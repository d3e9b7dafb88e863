"""Whom a character does something with: pasted elsewhere, it does it without them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence


def missed(
    actions: Sequence[tuple[str, str]], character: str, present: Collection[str] = ()
) -> list[str]:
    """Who of a caption's characters ``character``'s own actions name, and is not ``present``.

    ``actions``: names and what they do, as the caption has them. Pronouns name nobody.
    """
    told = " ".join(action for name, action in actions if name == character)
    others = dict.fromkeys(name for name, _ in actions if name != character)
    return [name for name in others if name not in present and _named(name, told)]


def _named(name: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None
