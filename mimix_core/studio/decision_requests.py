"""The decisions that the page sends: checked, and turned into what is saved."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.project.item_decisions import (
    CropBox,
    DecisionAction,
    ItemDecision,
    ItemKind,
)
from mimix_core.studio.clip_source import crop_problems
from mimix_core.studio.studio_session import StudioSession
from mimix_core.studio.track_items import CROP_ROLES, build_naming, naming_problems
from mimix_core.tables import Reason

BATCH_LIMIT = 100_000


def _require_unicode(text: str) -> str:
    """Return a text that UTF-8 can hold; JSON has escapes of halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("contains half of a character") from None
    return text


Text = Annotated[str, AfterValidator(_require_unicode)]


class RefusedDecision(ValueError):
    """A decision that cannot be saved; ``str`` says why."""


class DecisionRequest(FrozenModel):
    """One decision of the page.

    ``seen`` and ``seen_caption``: digests of what the page showed; empty: as it is now.
    ``expected``: id of the decision on the item that the page showed.
    """

    kind: ItemKind
    item: Text = Field(max_length=400)
    action: Literal["approve", "reject", "keep", "edit", "crop", "name"]
    reason: Text = Field("", max_length=500)
    caption: Text = Field("", max_length=8000)
    crop: CropBox | None = None
    character: Text = Field("", max_length=200)
    seen: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    seen_caption: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    expected: Text = Field("", max_length=32)


class DecisionBatch(FrozenModel):
    """The decisions of one key press, on one item or on a selection."""

    reviewer: Text = Field("", max_length=80)
    batch: Text = Field("", max_length=32)
    decisions: tuple[DecisionRequest, ...] = Field(min_length=1, max_length=BATCH_LIMIT)


class UndoRequest(FrozenModel):
    """Decisions to take back, by id."""

    reviewer: Text = Field("", max_length=80)
    ids: tuple[Text, ...] = Field(min_length=1, max_length=BATCH_LIMIT)


def build_decision(
    request: DecisionRequest,
    shown: dict[str, Any],
    session: StudioSession,
    reviewer: str,
    batch: str,
) -> ItemDecision:
    """Build the decision to save. To approve a duplicate is to want it although it is one.

    ``shown``: the item as the page shows it. Raises RefusedDecision.
    """
    problems = _find_problems(request, shown, session)
    if problems:
        raise RefusedDecision("; ".join(problems))
    if request.action == "name":
        files = {role: session.file(request.kind, request.item, role) for role in CROP_ROLES}
        return build_naming(
            session.workspace, request.item, files, request.character, reviewer, batch
        )
    action = DecisionAction(request.action)
    if action is DecisionAction.APPROVE and shown["reason"] == Reason.NEAR_DUPLICATE:
        action = DecisionAction.KEEP
    state = session.state(request.kind, request.item) or {}
    caption = (state.get("edit") or {}).get("caption") or shown["caption"]
    try:
        return ItemDecision(
            reviewer=reviewer,
            kind=request.kind,
            item=request.item,
            action=action,
            reason=request.reason,
            caption=request.caption,
            crop=request.crop,
            seen=request.seen or shown["digest"],
            seen_caption=request.seen_caption or hashlib.sha256(caption.encode()).hexdigest(),
            batch=batch,
        )
    except ValidationError as error:
        raise RefusedDecision(error.errors()[0]["msg"]) from error


def _find_problems(
    request: DecisionRequest, shown: dict[str, Any], session: StudioSession
) -> list[str]:
    if request.action == "edit":
        return session.caption_problems(shown, request.caption)
    if (request.action == "name") != (request.kind is ItemKind.TRACK):
        return ["a track is named, and nothing else is"]
    if request.action == "name":
        return naming_problems(session.index.meta, shown, request.character)
    return crop_problems(shown, request.crop) if request.crop is not None else []
