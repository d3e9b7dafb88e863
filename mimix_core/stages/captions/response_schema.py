"""What a vision-language model answers, and how it becomes a caption."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mimix_core.domain.caption_grammar import Caption
from mimix_core.domain.library import Style
from mimix_core.vlm import strict_schema


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SeenCharacter(_Answer):
    """Written first: features before names, so that a name has a reason."""

    character: str
    evidence: str


class AnsweredAction(_Answer):
    character: str
    action: str


class CaptionAnswer(_Answer):
    """Empty ``actions``: nobody of the cast is there."""

    seen: list[SeenCharacter]
    actions: list[AnsweredAction]
    context: str
    style: str

    def nobody(self) -> bool:
        return not self.seen and not self.actions


def answer_schema(roster: Sequence[str], style: Style) -> dict[str, Any]:
    """The strict JSON schema of an answer about a clip with this roster: no other name fits it."""
    schema = strict_schema(CaptionAnswer)
    fields = schema["properties"]
    for field in ("seen", "actions"):
        fields[field]["items"]["properties"]["character"]["enum"] = list(roster)
    fields["style"]["enum"] = [style.value]
    return schema


def caption_in(answer: CaptionAnswer) -> tuple[Caption | None, list[str]]:
    """The caption that an answer holds, and what is wrong with the answer itself.

    Spaces and a closing full stop are put right without a word: they change no meaning, and asking
    again costs money.
    """
    seen = {one.character for one in answer.seen}
    unseen = sorted({one.character for one in answer.actions} - seen)
    idle = sorted(seen - {one.character for one in answer.actions})
    found = [f"{name!r} acts and is not in `seen`" for name in unseen]
    found += [f"{name!r} is in `seen` and has no action" for name in idle]
    found += [
        f"no evidence for {one.character!r}" for one in answer.seen if not one.evidence.strip()
    ]
    if not answer.actions:
        return None, found or ["there is no action"]
    context = _tidy(answer.context)
    try:
        caption = Caption.model_validate(
            {
                "actions": [
                    {"name": one.character, "action": _tidy(one.action)} for one in answer.actions
                ],
                "context": context[:1].upper() + context[1:],
                "style": answer.style,
            }
        )
    except ValidationError as error:
        return None, found + [
            problem["msg"].removeprefix("Value error, ") for problem in error.errors()
        ]
    return caption, found


def _tidy(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    return text if text.endswith("..") else text.removesuffix(".").rstrip()
