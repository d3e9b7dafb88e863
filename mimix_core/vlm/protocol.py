"""One protocol for every vision-language call: what is asked, what comes back, what can go wrong.

A question is answered by a pydantic model; its strict JSON schema is part of what is sent. All
that is sent is in the question's digest, under which its answer is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel

from mimix_core.errors import BadInput, MimixError, Transient

M = TypeVar("M", bound=BaseModel)

Detail = Literal["auto", "low", "high"]


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Image:
    """A picture, encoded once by the caller. ``detail`` is OpenAI's; the others ignore it."""

    jpeg: bytes = field(repr=False)
    detail: Detail = "auto"

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.jpeg).hexdigest()


@dataclass(frozen=True)
class Video:
    """A video file; the provider looks at ``fps`` frames a second of it."""

    path: Path
    fps: float
    sha256: str


@dataclass(frozen=True)
class Message:
    """Raises ValueError for a system message that holds more than text: no provider takes it."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Text | Image | Video, ...]

    def __post_init__(self) -> None:
        if self.role != "user" and not all(isinstance(part, Text) for part in self.parts):
            raise ValueError(f"a {self.role} message holds text only; pictures go into a user's")


@dataclass(frozen=True)
class Question(Generic[M]):
    """One request. What many questions share goes first: providers bill a known prefix less.

    ``id`` is the caller's and no part of what is sent. ``schema`` is the strict JSON schema that is
    sent (``strict_schema`` makes it; the caller may narrow its enums); ``answer`` reads the answer.
    ``temperature`` and ``reasoning_effort`` of None are not sent: some models refuse them.
    """

    id: str
    messages: tuple[Message, ...]
    answer: type[M]
    schema: Mapping[str, Any]
    max_output_tokens: int
    temperature: float | None = 0.0
    reasoning_effort: str | None = None

    def digest(self, backend: str, model: str) -> str:
        """sha256 over all that is sent, in hex. Videos count by content, never by path.

        Where it is sent (the server's address) is no part of it, as a file's path is none of its
        content; neither is the key that pays for it.
        """
        sent = {
            "protocol": 1,
            "backend": backend,
            "model": model,
            "messages": [
                {"role": message.role, "parts": [_identity(part) for part in message.parts]}
                for message in self.messages
            ],
            # Not sorted: a model fills the fields in the schema's order.
            "schema": dict(self.schema),
            "max_output_tokens": self.max_output_tokens,
            "temperature": repr(self.temperature),
            "reasoning_effort": self.reasoning_effort,
        }
        text = json.dumps(sent, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _identity(part: Text | Image | Video) -> dict[str, str]:
    match part:
        case Text(text):
            return {"text": text}
        case Image():
            return {"jpeg": part.sha256, "detail": part.detail}
        case Video():
            return {"video": part.sha256, "fps": repr(part.fps)}


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them; ``cached_tokens`` are part of ``input_tokens``."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True)
class Reply(Generic[M]):
    """An answer that fits the question's model.

    ``usage`` and ``cost_usd`` are those of the request that gave it; the cost is None when no price
    of the model is known. ``model`` is what the provider says answered. ``cached``: nothing was
    asked now.
    """

    value: M
    usage: Usage
    cost_usd: Decimal | None
    model: str
    cached: bool


class VlmError(MimixError):
    """A question that got no answer.

    ``usage`` is what the failed request still cost. ``wait_seconds``: how long the provider says to
    wait, if it does.
    """

    kind: ClassVar[str] = "failed"

    def __init__(
        self, message: str, usage: Usage | None = None, wait_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.usage = usage or Usage()
        self.wait_seconds = wait_seconds


class Refused(VlmError):
    """The model, or a content filter of the provider, did not want to answer."""

    kind = "refused"


class TruncatedReply(VlmError):
    """The answer did not fit into ``max_output_tokens``."""

    kind = "truncated"


class InvalidReply(VlmError):
    """The answer is empty, not JSON, or not of the asked form."""

    kind = "invalid"


class RejectedRequest(VlmError):
    """The provider says that this request is wrong (HTTP 400, 413, 422)."""

    kind = "rejected"


class RateLimited(VlmError, Transient):
    """The provider asks for patience."""

    kind = "rate_limited"


class Unavailable(VlmError, Transient):
    """No connection, a timeout, or an error on the provider's side."""

    kind = "unavailable"


class BudgetSpent(BadInput):
    """The budget, or the account, has nothing left for one more request."""

    kind: ClassVar[str] = "budget_spent"

    def __init__(
        self,
        what: str,
        *,
        fix: str = "",
        spent_usd: Decimal | None = None,
        budget_usd: Decimal | None = None,
    ) -> None:
        super().__init__(what, fix=fix)
        self.spent_usd, self.budget_usd = spent_usd, budget_usd


class BadCredentials(BadInput):
    """There is no key, or the provider does not take it."""

    kind: ClassVar[str] = "bad_credentials"


@dataclass(frozen=True)
class Outcome(Generic[M]):
    """What became of a question: a reply, or the error it ended with.

    ``attempts`` and ``cost_usd`` count all requests made for it, those that failed and still cost
    something included; both are kept with the answer, so they are the same whenever it is read.
    """

    id: str
    reply: Reply[M] | None
    error: VlmError | None
    attempts: int
    cost_usd: Decimal | None


@dataclass(frozen=True)
class RawReply:
    """The text of an answer as it came, not yet read by a model."""

    text: str
    usage: Usage
    model: str
    # How long the provider says that nobody should ask, from its rate limit headers.
    rest_seconds: float = 0.0


class Backend(Protocol):
    """One provider's client. ``ask`` is one attempt, and raises the errors of this module only."""

    @property
    def name(self) -> str: ...

    async def ask(self, question: Question[Any]) -> RawReply:
        """Raises Refused, TruncatedReply, InvalidReply, RejectedRequest, RateLimited, Unavailable,
        BudgetSpent (the account's quota), BadCredentials, BadInput (no such model)."""

    async def close(self) -> None: ...
