"""The form of a vision-language model's response, and its conversion to a caption."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mimix_core.domain.abbreviations import ends_with_abbreviation, remove_full_stop
from mimix_core.domain.caption_grammar import Caption
from mimix_core.domain.library import Style
from mimix_core.vlm import strict_schema


class _ResponseModel(BaseModel):
    model_config = ConfigDict(extra="forbid")


# The docstrings of the next classes are sent with the schema: a changed one is a new request, and
# every clip would be paid for again.


class RecognizedCharacter(_ResponseModel):
    """Written first: features before names, so that a name has a reason."""

    character: str
    evidence: str


class ActionResponse(_ResponseModel):
    character: str
    action: str


class CaptionResponse(_ResponseModel):
    """Empty ``actions``: nobody of the cast is there."""

    seen: list[RecognizedCharacter]
    actions: list[ActionResponse]
    context: str
    style: str

    def is_empty(self) -> bool:
        """Return whether no character of the cast was recognized."""
        return not self.seen and not self.actions


def build_response_schema(roster: Sequence[str], style: Style) -> dict[str, Any]:
    """Build the strict JSON schema of a response: it allows no name outside the roster."""
    schema = strict_schema(CaptionResponse)
    fields = schema["properties"]
    for field in ("seen", "actions"):
        fields[field]["items"]["properties"]["character"]["enum"] = list(roster)
    fields["style"]["enum"] = [style.value]
    return schema


def caption_from_response(response: CaptionResponse) -> tuple[Caption | None, list[str]]:
    """Return the response's caption, and the problems of the response itself.

    Whitespace and a final full stop are corrected silently: they do not change the meaning, and
    another request costs money.
    """
    seen = {character.character for character in response.seen}
    acting = {action.character for action in response.actions}
    problems = [f"{name!r} acts and is not in `seen`" for name in sorted(acting - seen)]
    problems += [f"{name!r} is in `seen` and has no action" for name in sorted(seen - acting)]
    problems += [
        f"no evidence for {character.character!r}"
        for character in response.seen
        if not character.evidence.strip()
    ]
    if not response.actions:
        return None, problems or ["there is no action"]
    context = _normalize_text(response.context)
    try:
        caption = Caption.model_validate(
            {
                "actions": [
                    {"name": action.character, "action": _normalize_text(action.action)}
                    for action in response.actions
                ],
                "context": context[:1].upper() + context[1:],
                "style": response.style,
            }
        )
    except ValidationError as error:
        return None, problems + [
            problem["msg"].removeprefix("Value error, ") for problem in error.errors()
        ]
    return caption, problems


def _normalize_text(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    if text.endswith(".."):
        return text
    if ends_with_abbreviation(text):
        return f"{text}."
    return remove_full_stop(text).rstrip()
