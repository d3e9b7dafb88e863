"""The grammar of captions: a typed value, its one rendering and the exact inverse of that.

``[Character: Tom], chases Jerry. [Character: Jerry], hides. A kitchen. [scene-style:cartoon]``
(paper, section 3.1). Each action is one sentence without its full stop; the text after the last
action is the context, of any number of sentences; the style tag ends the caption. A dot after an
abbreviation or an initial ends no sentence (``mimix_core/domain/abbreviations.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from mimix_core.domain.abbreviations import (
    add_full_stop,
    ends_with_abbreviation,
    find_sentence_end,
    remove_full_stop,
)
from mimix_core.domain.character_names import validate_character_name
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.text_escaping import find_control_character
from mimix_core.errors import BadInput
from mimix_core.tables import CaptionRow

MAX_CAPTION_LENGTH = 8_000
"""Number of characters of a caption: a text encoder reads a few hundred words."""

_TAG_START = "[Character: "
_CHARACTER = re.compile(r"\[Character: ([^\[\]]*)\], ")
_STYLE = re.compile(r"(.*\.) \[scene-style:([a-z]+)\]", re.DOTALL)


class BadCaption(BadInput):
    """The text does not follow the caption grammar."""


class CaptionVariant(StrEnum):
    """Which tags a caption is rendered with: the arms of the paper's Table 2."""

    NO_TAGS = "no-tags"
    CHARACTER = "character"
    SCENE_STYLE = "scene-style"
    BOTH = "both"


def _validate_text(text: str) -> str:
    if len(text) > MAX_CAPTION_LENGTH:
        raise ValueError(f"has {len(text):,} characters, the limit is {MAX_CAPTION_LENGTH:,}")
    if text != text.strip():
        raise ValueError(f"{text!r} starts or ends with a space")
    if find_control_character(text) is not None:
        raise ValueError(f"{text!r} contains a line break or another control character")
    if "[" in text or "]" in text:
        raise ValueError(f"{text!r} contains a bracket; only tags have brackets")
    if text.endswith(".") and ends_with_abbreviation(text[:-1]):
        return text
    if text and text[-1] in ".!?,;:":
        raise ValueError(f"{text!r} ends with a punctuation mark; the full stop is added")
    if ends_with_abbreviation(text):
        raise ValueError(f"{text!r} ends with an abbreviation; write its dot")
    return text


def validate_action(text: str) -> str:
    """Return ``text`` if it can be an action; raise ValueError with the reason if not."""
    if not _validate_text(text):
        raise ValueError("an action cannot be empty")
    end = find_sentence_end(f"{add_full_stop(text)} {_TAG_START}")
    if end is None or end.sentence != text:
        raise ValueError(f"{text!r} is not one sentence; write an action for each")
    return text


ActionText = Annotated[str, AfterValidator(validate_action)]
ContextText = Annotated[str, AfterValidator(_validate_text)]


class CharacterAction(FrozenModel):
    """One character doing one thing. ``action`` has no full stop."""

    name: Annotated[str, AfterValidator(validate_character_name)]
    action: ActionText


class Caption(FrozenModel):
    """What a clip shows: the characters' actions in order, the context and the style."""

    actions: tuple[CharacterAction, ...] = Field(min_length=1)
    context: ContextText = ""
    style: Style

    def character_names(self) -> tuple[str, ...]:
        """Return the names of the characters without repetition, in the order they first act."""
        return tuple(dict.fromkeys(action.name for action in self.actions))


def render_caption(caption: Caption, variant: CaptionVariant = CaptionVariant.BOTH) -> str:
    """Render the text that the model is trained on."""
    tagged = variant in (CaptionVariant.BOTH, CaptionVariant.CHARACTER)
    parts: list[str] = []
    if caption.context:
        parts.append(caption.context.removesuffix(".") + ".")
    for action in reversed(caption.actions):
        following = " ".join(parts[-1:])
        text = add_full_stop(action.action, following)
        parts.append(f"[Character: {action.name}], {text}" if tagged else f"{action.name} {text}")
    parts.reverse()
    if variant in (CaptionVariant.BOTH, CaptionVariant.SCENE_STYLE):
        parts.append(f"[scene-style:{caption.style.value}]")
    return " ".join(parts)


def parse_caption(text: str) -> Caption:
    """Parse a text rendered with both tags: ``parse_caption(render_caption(c)) == c``.

    Raises BadCaption for any text that ``render_caption`` cannot produce, and for one longer than
    MAX_CAPTION_LENGTH.
    """
    if len(text) > MAX_CAPTION_LENGTH:
        raise BadCaption(
            f"has {len(text):,} characters, the limit is {MAX_CAPTION_LENGTH:,}",
            where=repr(text[:80]),
        )
    ending = _STYLE.fullmatch(text)
    if ending is None:
        raise BadCaption("does not end with '. [scene-style:<style>]'", where=repr(text))
    body, position = ending[1] + " ", 0
    actions: list[dict[str, str]] = []
    while (head := _CHARACTER.match(body, position)) is not None:
        end = find_sentence_end(body, head.end())
        if end is None:
            raise BadCaption(f"the action of {head[1]!r} does not end", where=repr(text))
        actions.append({"name": head[1], "action": end.sentence})
        position = end.following
    context = remove_full_stop(body[position:-1])
    try:
        caption = Caption.model_validate(
            {"actions": actions, "context": context, "style": ending[2]}
        )
    except ValidationError as error:
        reasons = "; ".join(p["msg"].removeprefix("Value error, ") for p in error.errors())
        raise BadCaption(reasons, where=repr(text)) from error
    if render_caption(caption) != text:
        raise BadCaption("does not have the exact form of a caption", where=repr(text))
    return caption


def resolve_aliases(caption: Caption, names: Mapping[str, str]) -> Caption:
    """Replace aliases in the tags by the characters' names.

    ``names``: as from ``alias_map``. Other names stay, for the checks to report.
    """
    actions = tuple(
        action.model_copy(update={"name": names.get(action.name.casefold(), action.name)})
        for action in caption.actions
    )
    return caption.model_copy(update={"actions": actions})


def caption_from_row(row: CaptionRow) -> Caption | None:
    """Return the caption in a row of the captions table; None for a row without one."""
    if not row["actions"]:
        return None
    return Caption.model_validate(
        {"actions": row["actions"], "context": row["context"], "style": row["style"]}
    )
