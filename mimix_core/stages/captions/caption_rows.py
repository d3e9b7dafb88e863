"""Rows of the captions table."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mimix_core.domain.caption_grammar import Caption, render
from mimix_core.domain.library import Style


@dataclass(frozen=True)
class Spent:
    """What was paid for a row: requests that reached the model, their tokens, and what they cost.

    ``cost_usd``: None when no price of the model is known.
    """

    attempts: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = Decimal(0)

    def __add__(self, other: Spent) -> Spent:
        costs = (self.cost_usd, other.cost_usd)
        return Spent(
            self.attempts + other.attempts,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            None if None in costs else sum((c for c in costs if c is not None), Decimal(0)),
        )


NOTHING = Spent()


def columns(
    clip_id: str,
    backend: str,
    caption: Caption | None,
    style: Style,
    *,
    model: str = "",
    spent: Spent = NOTHING,
) -> dict[str, Any]:
    """The caption columns of a row of the captions table."""
    return {
        "clip_id": clip_id,
        "backend": backend,
        "model": model,
        "caption": render(caption) if caption else "",
        "actions": [action.model_dump() for action in caption.actions] if caption else [],
        "context": caption.context if caption else "",
        "style": style.value,
        "attempts": spent.attempts,
        "input_tokens": spent.input_tokens,
        "cached_tokens": spent.cached_tokens,
        "output_tokens": spent.output_tokens,
        "cost_usd": None if spent.cost_usd is None else float(spent.cost_usd),
    }


def caption_of(row: dict[str, Any]) -> Caption | None:
    """The caption that a row holds; None when it holds none."""
    if not row["actions"]:
        return None
    return Caption.model_validate(
        {"actions": row["actions"], "context": row["context"], "style": row["style"]}
    )
