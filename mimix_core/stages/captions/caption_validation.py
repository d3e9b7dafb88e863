"""Check captions of any origin against the rules for their clip."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from mimix_core.domain.caption_grammar import Caption, render_caption
from mimix_core.domain.library import Style
from mimix_core.stages.captions.text_checks import find_unsupported_quotes, is_english

# Tag words outside of a tag: a backend that only partly followed the grammar.
_STRAY_TAG = re.compile(r"\b(character|scene-style)\s*:", re.IGNORECASE)


@dataclass(frozen=True)
class CaptionRules:
    """Requirements on a caption beyond the grammar.

    ``roster``: the names that may act. ``style``: the scene's. ``count_tokens``: counts as the text
    encoder does; None without a tokenizer, then ``max_words`` is the only limit. ``dialogue``: of
    the clip; None where unknown. ``located``: characters located in the clip; None without a
    locator. ``required_characters``: names that must act.
    """

    roster: Collection[str]
    style: Style
    max_words: int
    max_tokens: int = 512
    count_tokens: Callable[[str], int] | None = None
    english: bool = True
    dialogue: str | None = None
    located: Collection[str] | None = None
    required_characters: Collection[str] = ()


def find_caption_problems(caption: Caption, rules: CaptionRules) -> list[str]:
    """List all problems of a caption in words; an empty list means that it can be trained on.

    Empty texts and broken tags need no check here: the model's validators exclude them.
    """
    names, text = caption.character_names(), render_caption(caption)
    texts = [*(action.action for action in caption.actions), caption.context]
    problems = [
        f"no character here is named {name!r}" for name in names if name not in rules.roster
    ]
    if rules.located is not None:
        problems += [
            f"{name!r} was not located in the clip"
            for name in names
            if name in rules.roster and name not in rules.located
        ]
    problems += [
        f"{name!r} is in the clip but has no action"
        for name in rules.required_characters
        if name not in names
    ]
    if caption.style is not rules.style:
        problems.append(f"the style is {caption.style.value}, the scene's is {rules.style.value}")
    words = len(text.split())
    if words > rules.max_words:
        problems.append(f"{words} words, at most {rules.max_words} are allowed")
    if rules.count_tokens is not None and (tokens := rules.count_tokens(text)) > rules.max_tokens:
        problems.append(f"{tokens} tokens, the text encoder reads {rules.max_tokens}")
    problems += [f"a tag inside of a text: {part!r}" for part in texts if _STRAY_TAG.search(part)]
    actions = [(action.name, action.action.casefold()) for action in caption.actions]
    if len(set(actions)) < len(actions):
        problems.append("the same character has the same action twice")
    problems += [
        f"the action repeats the name: {action.action!r}"
        for action in caption.actions
        if re.match(rf"{re.escape(action.name)}(?!\w|')", action.action, re.IGNORECASE)
    ]
    if rules.dialogue is not None:
        problems += [
            f"{quote!r} is not in the clip's dialogue"
            for quote in find_unsupported_quotes(texts, rules.dialogue, rules.roster)
        ]
    if rules.english and not is_english(" ".join(texts), rules.roster):
        problems.append("it is not written in English")
    return problems


def most_common_caption(captions: Iterable[str]) -> tuple[str, int]:
    """Return the most common caption, ignoring case, and its count; ``("", 0)`` without any."""
    texts = sorted(captions)
    counts = Counter(text.casefold() for text in texts)
    if not counts:
        return "", 0
    # Of equally frequent captions the first in order, the same on every machine.
    most, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return next(text for text in texts if text.casefold() == most), count
