"""Define requests to vision-language models, their responses and their errors.

The response to a request is a pydantic model, whose strict JSON schema is sent with the request.
A digest of everything that is sent identifies the stored response.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel

from mimix_core.errors import BadInput, MimixError, Transient
from mimix_core.settings.vlm_settings import VlmSettings

ResponseT = TypeVar("ResponseT", bound=BaseModel)

ImageDetail = Literal["auto", "low", "high"]


@dataclass(frozen=True)
class TextPart:
    """A part of a message with text."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """An image, encoded once by the caller; only OpenAI uses ``detail``."""

    jpeg: bytes = field(repr=False)
    detail: ImageDetail = "auto"

    @cached_property
    def sha256(self) -> str:
        """Return the SHA-256 of the JPEG, in hex."""
        return hashlib.sha256(self.jpeg).hexdigest()


@dataclass(frozen=True)
class VideoPart:
    """A video file; the provider samples ``fps`` frames per second, None: as many as it wants."""

    path: Path
    fps: float | None
    sha256: str


@dataclass(frozen=True)
class ChatMessage:
    """A message of the conversation. Only a user's may contain images and videos (ValueError)."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[TextPart | ImagePart | VideoPart, ...]

    def __post_init__(self) -> None:
        if self.role != "user" and not all(isinstance(part, TextPart) for part in self.parts):
            raise ValueError(
                f"a {self.role} message may contain text only; put images into a user message"
            )


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """Everything that is sent to a model.

    Put what many requests share first: providers charge less for a cached prefix. ``schema`` is the
    strict JSON schema of the response (see ``strict_schema``; the caller may narrow its enums); an
    empty one is not sent: the messages themselves say which form the response has. Sampling
    parameters and ``reasoning_effort`` are omitted if None, because some models reject them.
    ``retry``: how often a person wanted another response; it is not sent, but part of the digest.
    """

    messages: tuple[ChatMessage, ...]
    schema: Mapping[str, Any]
    max_output_tokens: int
    temperature: float | None = 0.0
    top_p: float | None = None
    top_k: int | None = None
    reasoning_effort: str | None = None
    retry: int = 0

    def digest(self, settings: VlmSettings) -> str:
        """Return the SHA-256 of everything that is sent, in hex; videos count by content.

        The server's address, headers and the API key are not part of it, nor is the allowance for
        reasoning tokens.
        """
        sent: dict[str, Any] = {
            "protocol": 1,
            "backend": settings.backend,
            "model": settings.model,
            "messages": [
                {"role": message.role, "parts": [_part_identity(part) for part in message.parts]}
                for message in self.messages
            ],
            # Not sorted: a model generates the fields in the schema's order.
            "schema": dict(self.schema),
            "max_output_tokens": self.max_output_tokens,
            "temperature": repr(self.temperature),
            "reasoning_effort": self.reasoning_effort,
        }
        # Only if they are set: the digests of responses from before these fields stay valid.
        if self.top_p is not None:
            sent["top_p"] = repr(self.top_p)
        if self.top_k is not None:
            sent["top_k"] = self.top_k
        if settings.seed is not None:
            sent["seed"] = settings.seed
        if settings.response_format != "json_schema":
            sent["response_format"] = settings.response_format
        if settings.extra_body:
            sent["extra_body"] = json.dumps(settings.extra_body, sort_keys=True)
        if self.retry:
            sent["retry"] = self.retry
        text = json.dumps(sent, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class VlmRequest(ModelInput, Generic[ResponseT]):
    """A request: what is sent, and two things that are not.

    ``id`` is the caller's. ``response_model`` validates the response.
    """

    id: str
    response_model: type[ResponseT]


def with_schema_in_prompt(
    messages: Sequence[ChatMessage], schema: Mapping[str, Any]
) -> tuple[ChatMessage, ...]:
    """Append the schema of the response to the last message, for servers that take none."""
    if not schema:
        return tuple(messages)
    *first, last = messages
    text = f"Respond with one JSON object that matches this JSON schema:\n{json.dumps(schema)}"
    return (*first, ChatMessage(last.role, (*last.parts, TextPart(text))))


def _part_identity(part: TextPart | ImagePart | VideoPart) -> dict[str, str]:
    match part:
        case TextPart(text):
            return {"text": text}
        case ImagePart():
            return {"jpeg": part.sha256, "detail": part.detail}
        case VideoPart():
            return {"video": part.sha256, "fps": repr(part.fps)}


@dataclass(frozen=True)
class TokenUsage:
    """Token counts of the provider; ``cached_tokens`` are included in ``input_tokens``."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True)
class VlmResponse(Generic[ResponseT]):
    """A valid response.

    ``usage`` and ``cost_usd`` are those of the successful attempt; the cost is None if the model's
    price is unknown. ``model`` is the name that the provider returned.
    """

    value: ResponseT
    usage: TokenUsage
    cost_usd: Decimal | None
    model: str


class VlmError(MimixError):
    """Base of the errors of a request that got no valid response.

    ``usage`` counts the tokens that the failed request still cost: none by default, and given as
    None if the provider did not report them (``usage_is_missing``). ``retry_after_seconds`` is the
    provider's advice, if any. ``text`` is what the model returned, as far as it returned any.
    """

    kind: ClassVar[str] = "failed"

    def __init__(
        self,
        message: str,
        usage: TokenUsage | None = TokenUsage(),
        retry_after_seconds: float | None = None,
        text: str = "",
    ) -> None:
        super().__init__(message)
        self.usage = usage or TokenUsage()
        self.usage_is_missing = usage is None
        self.retry_after_seconds = retry_after_seconds
        self.text = text


class UnusableResponse(VlmError):
    """Base of the errors of a request that the model did process: its response is no use.

    Such a response was paid for. It is stored like a valid one, and the request is not sent again
    unless a person decides so.
    """


class RefusedResponse(UnusableResponse):
    """The model or a content filter of the provider refused to respond."""

    kind = "refused"


class TruncatedResponse(UnusableResponse):
    """The response did not fit into ``max_output_tokens``."""

    kind = "truncated"


class InvalidResponse(UnusableResponse):
    """The response is empty, not JSON, or does not match the response model."""

    kind = "invalid"


class RejectedRequest(VlmError):
    """The provider rejected the request as invalid (HTTP 400, 413, 422)."""

    kind = "rejected"


class RateLimited(VlmError, Transient):
    """The request exceeded a rate limit of the provider."""

    kind = "rate_limited"


class Unavailable(VlmError, Transient):
    """No connection, a timeout, or an error of the provider."""

    kind = "unavailable"


class BudgetExceeded(BadInput):
    """The budget or the account does not cover another request."""

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
    """The API key is missing, or the provider rejected it."""

    kind: ClassVar[str] = "bad_credentials"


@dataclass(frozen=True)
class VlmOutcome(Generic[ResponseT]):
    """The result of a request: a response, or the error of its last attempt.

    ``attempts`` and ``cost_usd`` include failed attempts that still cost something; both are stored
    with the response, so they are the same at every read. ``cached``: read from disk.
    """

    id: str
    response: VlmResponse[ResponseT] | None
    error: VlmError | None
    attempts: int
    cost_usd: Decimal | None
    cached: bool = False


@dataclass(frozen=True)
class RawResponse:
    """The text of a response as received, before validation; ``usage`` None if not reported."""

    text: str
    usage: TokenUsage | None
    model: str
    # The pause that the provider's rate limit headers ask for.
    pause_seconds: float = 0.0


class VlmBackend(Protocol):
    """Client of a provider. ``send`` makes one attempt and raises errors of this module only."""

    @property
    def name(self) -> str: ...

    async def send(self, request: ModelInput) -> RawResponse:
        """Send a request once and return the response.

        Raises RefusedResponse, TruncatedResponse, InvalidResponse, RejectedRequest, RateLimited,
        Unavailable, BudgetExceeded (the account's quota), BadCredentials, BadInput (unknown model).
        """

    async def close(self) -> None: ...
