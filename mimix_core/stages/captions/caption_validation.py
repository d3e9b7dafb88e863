"""What a caption must be, whoever wrote it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from mimix_core.domain.caption_grammar import Caption, render
from mimix_core.domain.library import Style
from mimix_core.stages.captions.text_checks import is_english, unsaid

# Tag words outside of a tag: a backend that half followed the grammar.
_STRAY_TAG = re.compile(r"\b(character|scene-style)\s*:", re.IGNORECASE)


@dataclass(frozen=True)
class Rules:
    """What a caption is held to beside its own form.

    ``roster``: the names that may act. ``style``: the scene's. ``count_tokens`` counts as the text
    encoder does, None where no tokenizer is at hand: ``max_words`` is the only bound then.
    ``said``: the clip's dialogue, None where nothing is known of it. ``seen``: who was located in
    the clip, None where nobody looked. ``wanted``: names that must act.
    """

    roster: Collection[str]
    style: Style
    max_words: int
    max_tokens: int = 512
    count_tokens: Callable[[str], int] | None = None
    english: bool = True
    said: str | None = None
    seen: Collection[str] | None = None
    wanted: Collection[str] = ()


def problems(caption: Caption, rules: Rules) -> list[str]:
    """All that is wrong with ``caption``, in words; empty when it may be trained on.

    That no text is empty or breaks the tags is already sure: the model's validators hold it.
    """
    names, text = caption.names(), render(caption)
    texts = [*(action.action for action in caption.actions), caption.context]
    found = [f"nobody is called {name!r} here" for name in names if name not in rules.roster]
    if rules.seen is not None:
        found += [
            f"{name!r} was not located in the clip"
            for name in names
            if name in rules.roster and name not in rules.seen
        ]
    found += [
        f"{name!r} is in the clip and does nothing" for name in rules.wanted if name not in names
    ]
    if caption.style is not rules.style:
        found.append(f"the style is {caption.style.value}, the scene's is {rules.style.value}")
    words = len(text.split())
    if words > rules.max_words:
        found.append(f"{words} words, at most {rules.max_words} are allowed")
    if rules.count_tokens is not None and (tokens := rules.count_tokens(text)) > rules.max_tokens:
        found.append(f"{tokens} tokens, the text encoder reads {rules.max_tokens}")
    found += [f"a tag inside of a text: {part!r}" for part in texts if _STRAY_TAG.search(part)]
    doings = [(action.name, action.action.casefold()) for action in caption.actions]
    if len(set(doings)) < len(doings):
        found.append("the same action of the same character stands twice")
    found += [
        f"the action repeats the name: {action.action!r}"
        for action in caption.actions
        if re.match(rf"{re.escape(action.name)}(?!\w|')", action.action, re.IGNORECASE)
    ]
    if rules.said is not None:
        found += [
            f"{quote!r} is not said in the clip's dialogue" for quote in unsaid(texts, rules.said)
        ]
    if rules.english and not is_english(" ".join(texts), rules.roster):
        found.append("it is not written in English")
    return found


def most_shared(captions: Iterable[str]) -> tuple[str, int]:
    """The caption that most clips share, letter case aside, and how many; ``("", 0)`` of none."""
    texts = sorted(captions)
    shared = Counter(text.casefold() for text in texts)
    if not shared:
        return "", 0
    # Of equally frequent ones the first in order, so that every machine names the same.
    most, times = min(shared.items(), key=lambda item: (-item[1], item[0]))
    return next(text for text in texts if text.casefold() == most), times
