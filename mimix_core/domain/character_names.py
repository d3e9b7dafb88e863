"""Look up characters by any of their names, and spell names for use in ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from mimix_core.domain.abbreviations import find_sentence_end
from mimix_core.engine.text_escaping import find_control_character


def validate_character_name(name: str) -> str:
    """Return ``name`` if captions can hold it; raise ValueError with the reason if not.

    It must fit into a tag, and into the sentence of another character's action.
    """
    unfit = find_control_character(name) is not None or set(name) & set("[],:")
    if not name or name != name.strip() or unfit:
        raise ValueError(f"{name!r} is not allowed in a [Character: ...] tag")
    if name[-1] in "!?;":
        raise ValueError(f"{name!r} would end the sentence of a caption; leave {name[-1]!r} out")
    for following in ("and", "Bean"):
        end = find_sentence_end(f"waves at {name} {following}. ")
        if end is not None and end.sentence != f"waves at {name} {following}":
            raise ValueError(
                f"{name!r} cannot be written in a caption: a dot in it would end the sentence; "
                "leave the dot out"
            )
    return name


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
