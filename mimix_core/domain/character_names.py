"""Look up characters by any of their names, and spell names for use in ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence


def alias_map(roster: Sequence[str], aliases: Mapping[str, str]) -> dict[str, str]:
    """Map each casefolded name and alias to the roster's name. ``aliases``: alias -> name."""
    by_alias = {alias.casefold(): name for alias, name in aliases.items()}
    return {**by_alias, **{name.casefold(): name for name in roster}}


def slugify(name: str) -> str:
    """Spell ``name`` for ids and file names: ``Ice Bear`` -> ``ice-bear``.

    A name that the plain spelling does not preserve gets digits of its hash appended: two names
    that differ in more than case never share a slug.
    """
    plain = "-".join(re.findall(r"[a-z0-9]+", name.casefold()))
    if name.casefold() == plain.replace("-", " "):
        return plain
    digest = hashlib.sha256(name.casefold().encode()).hexdigest()[:6]
    return f"{plain}-{digest}" if plain else digest
