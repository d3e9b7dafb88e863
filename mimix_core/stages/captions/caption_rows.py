"""Build rows of the captions table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from mimix_core import tables
from mimix_core.domain.caption_grammar import Caption, CharacterAction, render_caption
from mimix_core.domain.library import Style
from mimix_core.tables import CaptionRow, Reason, Row, Status


@dataclass(frozen=True)
class RequestUsage:
    """What a row cost: requests that reached the model, their tokens and their price.

    ``cost_usd``: None when the model's price is unknown.
    """

    attempts: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = Decimal(0)

    def __add__(self, other: RequestUsage) -> RequestUsage:
        costs = (self.cost_usd, other.cost_usd)
        return RequestUsage(
            self.attempts + other.attempts,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            None if None in costs else sum((c for c in costs if c is not None), Decimal(0)),
        )


NO_USAGE = RequestUsage()


def caption_columns(
    clip_id: str,
    backend: str,
    caption: Caption | None,
    style: Style,
    *,
    model: str = "",
    usage: RequestUsage = NO_USAGE,
) -> Row:
    """Return the columns of a row of the captions table, without its status."""
    return {
        "clip_id": clip_id,
        "backend": backend,
        "model": model,
        "caption": render_caption(caption) if caption else "",
        "actions": [action.model_dump() for action in caption.actions] if caption else [],
        "context": caption.context if caption else "",
        "style": style.value,
        "attempts": usage.attempts,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": None if usage.cost_usd is None else float(usage.cost_usd),
    }


def edited_caption_row(
    clip_id: str,
    backend: str,
    text: str,
    actions: Sequence[CharacterAction],
    context: str,
    style: str,
    *,
    status: str = Status.OK.value,
    reason: str | None = None,
    detail: str | None = None,
) -> CaptionRow:
    """Return a row for checking an edited caption, whose text and parts may differ."""
    return {
        "clip_id": clip_id,
        "backend": backend,
        "model": "",
        "caption": text,
        "actions": [{"name": action.name, "action": action.action} for action in actions],
        "context": context,
        "style": style,
        "attempts": 0,
        "input_tokens": 0,
        "cached_tokens": 0,
        "output_tokens": 0,
        "cost_usd": 0.0,
        "status": status,
        "reason": reason,
        "detail": detail,
    }


_REJECTING = (
    Reason.NO_CHARACTER,
    Reason.NO_ACTION_IN_SCRIPT,
    Reason.LEFT_OUT_BY_HAND,
    Reason.ACTS_WITH_THINGS,
)


def row_with_reason(reason: Reason | None, detail: str, values: Row) -> Row:
    """Return an ok row without a reason; else a rejected or failed one, depending on the reason."""
    if reason is None:
        return tables.ok(**values)
    if reason in _REJECTING:
        return tables.rejected(reason, detail, **values)
    return tables.failed(reason, detail, **values)
