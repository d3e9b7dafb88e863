"""Serialize errors, for the response cache, batch files and the worker's messages."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.errors import BadInput, MimixError, StageFailed
from mimix_core.vlm.protocol import (
    BadCredentials,
    BudgetExceeded,
    InvalidResponse,
    RateLimited,
    RefusedResponse,
    RejectedRequest,
    TokenUsage,
    TruncatedResponse,
    Unavailable,
    VlmError,
)

_REQUEST_ERRORS: dict[str, type[VlmError]] = {
    error.kind: error
    for error in (
        RefusedResponse,
        TruncatedResponse,
        InvalidResponse,
        RejectedRequest,
        RateLimited,
        Unavailable,
    )
}


class SerializedRequestError(FrozenModel):
    """A ``VlmError``. ``usage``: input, cached input and output tokens."""

    kind: str
    message: str
    usage: tuple[int, int, int] = (0, 0, 0)
    retry_after_seconds: float | None = None
    text: str = ""

    @classmethod
    def from_error(cls, error: VlmError) -> SerializedRequestError:
        """Serialize an error; one of an unexpected kind becomes Unavailable."""
        usage = error.usage
        return cls(
            kind=error.kind if error.kind in _REQUEST_ERRORS else Unavailable.kind,
            message=str(error),
            usage=(usage.input_tokens, usage.cached_tokens, usage.output_tokens),
            retry_after_seconds=error.retry_after_seconds,
            text=error.text,
        )

    def to_error(self) -> VlmError:
        """Return the error."""
        error = _REQUEST_ERRORS[self.kind]
        return error(self.message, TokenUsage(*self.usage), self.retry_after_seconds, self.text)


class SerializedFatalError(FrozenModel):
    """An error after which no more requests are sent."""

    kind: Literal["bad_input", "bad_credentials", "budget_spent", "stage_failed"]
    what: str
    where: str = ""
    fix: str = ""
    spent_usd: Decimal | None = None
    budget_usd: Decimal | None = None

    @classmethod
    def from_error(cls, error: MimixError) -> SerializedFatalError:
        """Serialize an error; one of an unexpected type becomes StageFailed."""
        match error:
            case BudgetExceeded():
                return cls(
                    kind="budget_spent",
                    what=error.what,
                    fix=error.fix,
                    spent_usd=error.spent_usd,
                    budget_usd=error.budget_usd,
                )
            case BadInput():
                kind: Literal["bad_credentials", "bad_input"] = (
                    "bad_credentials" if isinstance(error, BadCredentials) else "bad_input"
                )
                return cls(kind=kind, what=error.what, where=error.where, fix=error.fix)
            case _:
                return cls(kind="stage_failed", what=str(error))

    def to_error(self) -> MimixError:
        """Return the error."""
        match self.kind:
            case "budget_spent":
                return BudgetExceeded(
                    self.what, fix=self.fix, spent_usd=self.spent_usd, budget_usd=self.budget_usd
                )
            case "bad_credentials":
                return BadCredentials(self.what, where=self.where, fix=self.fix)
            case "bad_input":
                return BadInput(self.what, where=self.where, fix=self.fix)
            case "stage_failed":
                return StageFailed(self.what)
