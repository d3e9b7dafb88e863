"""The caption's grammar: one typed value, one rendering, and its exact inverse.

``[Character: Tom], chases Jerry. [Character: Jerry], hides. A kitchen. [scene-style:cartoon]``
(paper, section 3.1). Each action is one sentence without its full stop; what follows the last
action is the context, of any number of sentences; the style tag ends the caption.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import Frozen
from mimix_core.errors import BadInput

# A full stop before a space ends an action, but not in a title: "waves at Mr. Bean" is one.
_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)\.(?= )")
_CHARACTER = re.compile(r"\[Character: ([^\[\]]*)\], ")
_STYLE = re.compile(r"(.*\.) \[scene-style:([a-z]+)\]", re.DOTALL)


class BadCaption(BadInput):
    """The text does not follow the caption's grammar."""


class Variant(StrEnum):
    """Which tags a caption is rendered with: the arms of the paper's Table 2."""

    NO_TAGS = "no-tags"
    CHARACTER = "character"
    SCENE_STYLE = "scene-style"
    BOTH = "both"


def _plain(text: str) -> str:
    if text != text.strip():
        raise ValueError(f"{text!r} starts or ends with a space")
    if not text.isprintable():
        raise ValueError(f"{text!r} holds a line break or another control character")
    if "[" in text or "]" in text:
        raise ValueError(f"{text!r} holds a bracket; only the tags do")
    if text and text[-1] in ".!?,;:":
        raise ValueError(f"{text!r} ends with a punctuation mark; the full stop is added")
    return text


def action_text(text: str) -> str:
    """``text`` if it can be an action; raises ValueError with the reason if not."""
    if not _plain(text):
        raise ValueError("an action cannot be empty")
    end = _SENTENCE_END.search(f"{text}. ")
    if end is None or end.start() != len(text):
        raise ValueError(f"{text!r} is not one sentence; write an action for each")
    return text


def _name(text: str) -> str:
    if not _plain(text) or any(mark in text for mark in ",:"):
        raise ValueError(f"{text!r} cannot stand in a [Character: ...] tag")
    return text


Action = Annotated[str, AfterValidator(action_text)]
Context = Annotated[str, AfterValidator(_plain)]


class CharacterAction(Frozen):
    """One character doing one thing. ``action`` has no full stop."""

    name: Annotated[str, AfterValidator(_name)]
    action: Action


class Caption(Frozen):
    """What a clip shows: who does what, in order; where; in which style."""

    actions: tuple[CharacterAction, ...] = Field(min_length=1)
    context: Context = ""
    style: Style

    def names(self) -> tuple[str, ...]:
        """The characters, each once, in the order they first act."""
        return tuple(dict.fromkeys(action.name for action in self.actions))


def render(caption: Caption, variant: Variant = Variant.BOTH) -> str:
    """The caption as the text the model is trained on."""
    tagged = variant in (Variant.BOTH, Variant.CHARACTER)
    parts = [
        f"[Character: {a.name}], {a.action}." if tagged else f"{a.name} {a.action}."
        for a in caption.actions
    ]
    if caption.context:
        parts.append(f"{caption.context}.")
    if variant in (Variant.BOTH, Variant.SCENE_STYLE):
        parts.append(f"[scene-style:{caption.style.value}]")
    return " ".join(parts)


def parse(text: str) -> Caption:
    """The caption behind a text rendered with both tags: ``parse(render(c)) == c``.

    Raises BadCaption for any text that ``render`` cannot have made.
    """
    ending = _STYLE.fullmatch(text)
    if ending is None:
        raise BadCaption("does not end with '. [scene-style:<style>]'", where=repr(text))
    body, position = ending[1] + " ", 0
    actions: list[dict[str, str]] = []
    while (head := _CHARACTER.match(body, position)) is not None:
        end = _SENTENCE_END.search(body, head.end())
        if end is None:
            raise BadCaption(f"the action of {head[1]!r} does not end", where=repr(text))
        actions.append({"name": head[1], "action": body[head.end() : end.start()]})
        position = end.end() + 1
    context = body[position:].removesuffix(". ")
    try:
        caption = Caption.model_validate(
            {"actions": actions, "context": context, "style": ending[2]}
        )
    except ValidationError as error:
        reasons = "; ".join(p["msg"].removeprefix("Value error, ") for p in error.errors())
        raise BadCaption(reasons, where=repr(text)) from error
    if render(caption) != text:
        raise BadCaption("is not written the way captions are", where=repr(text))
    return caption
