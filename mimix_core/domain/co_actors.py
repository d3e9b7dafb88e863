"""Find a character's co-actors: the other characters that its actions refer to."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence


def find_absent_co_actors(
    actions: Sequence[tuple[str, str]], character: str, present: Collection[str] = ()
) -> list[str]:
    """Find characters that the actions of ``character`` refer to and that are not ``present``.

    Pasted into another scene, the character would act without them. ``actions``: pairs of name and
    action, as the caption lists them; only its names are searched for, never pronouns.
    """
    own_actions = " ".join(action for name, action in actions if name == character)
    others = dict.fromkeys(name for name, _ in actions if name != character)
    return [name for name in others if name not in present and _mentions(own_actions, name)]


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None
