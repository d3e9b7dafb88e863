"""Names of characters: finding the one that is meant, and spelling it in an id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence


def names_of(roster: Sequence[str], aliases: Mapping[str, str]) -> dict[str, str]:
    """Casefolded name or alias -> the roster's name. ``aliases``: other name -> roster's name."""
    known = {alias.casefold(): name for alias, name in aliases.items()}
    return {**known, **{name.casefold(): name for name in roster}}


def slug(name: str) -> str:
    """``name`` for ids and file names: ``Ice Bear`` -> ``ice-bear``.

    Whatever the plain spelling loses is made up for by digits of its digest, so that two names
    which differ in more than case never share a slug.
    """
    plain = "-".join(re.findall(r"[a-z0-9]+", name.casefold()))
    if name.casefold() == plain.replace("-", " "):
        return plain
    digest = hashlib.sha256(name.casefold().encode()).hexdigest()[:6]
    return f"{plain}-{digest}" if plain else digest
