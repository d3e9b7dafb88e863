"""What a caption must be, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Collection

from mimix_core.captions.grammar import Caption, render
from mimix_core.library import Style

# Tag words outside of a tag: a backend that half followed the grammar.
_STRAY_TAG = re.compile(r"\b(character|scene-style)\s*:", re.IGNORECASE)


def problems(
    caption: Caption, *, roster: Collection[str], style: Style, max_words: int
) -> list[str]:
    """All that is wrong with ``caption``, in words; empty when it may be trained on.

    ``roster``: the names that may act. ``style``: the scene's. That no text is empty or breaks
    the tags is already sure: the model's validators hold it.
    """
    found = [f"nobody is called {name!r} here" for name in caption.names() if name not in roster]
    if caption.style is not style:
        found.append(f"the style is {caption.style.value}, the scene's is {style.value}")
    words = len(render(caption).split())
    if words > max_words:
        found.append(f"{words} words, at most {max_words} are allowed")
    texts = [*(action.action for action in caption.actions), caption.context]
    found += [f"a tag inside of a text: {text!r}" for text in texts if _STRAY_TAG.search(text)]
    doings = [(action.name, action.action.casefold()) for action in caption.actions]
    if len(set(doings)) < len(doings):
        found.append("the same action of the same character stands twice")
    return found
