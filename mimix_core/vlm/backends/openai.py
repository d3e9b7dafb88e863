"""Chat completions by the official client: OpenAI, and every server that speaks the same."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx2
import openai

from mimix_core.errors import BadInput, MimixError
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.api_keys import scrub
from mimix_core.vlm.protocol import (
    BadCredentials,
    BudgetSpent,
    Image,
    InvalidReply,
    Question,
    RateLimited,
    RawReply,
    Refused,
    RejectedRequest,
    Text,
    TruncatedReply,
    Unavailable,
    Usage,
    Video,
)
from mimix_core.vlm.rate_limiter import rest_of, wait_of

# Given in full: the client would take an address from the environment otherwise.
OPENAI_URL = "https://api.openai.com/v1"


class OpenAIBackend:
    """One attempt a question; the client's own retries are off."""

    name = "openai"

    def __init__(self, settings: VlmSettings, key: str) -> None:
        self._settings = settings
        self.key = key
        self.client = openai.AsyncOpenAI(
            api_key=key,
            base_url=settings.base_url or OPENAI_URL,
            max_retries=0,
            timeout=settings.timeout_seconds,
        )

    async def ask(self, question: Question[Any]) -> RawReply:
        try:
            # Not chat.completions.create: it walks through all that is sent looking for what to
            # rename, and nothing here needs it.
            raw = await self.client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=body(question, self._settings),
            )
        except openai.OpenAIError as error:
            raise self.translate(error) from None
        try:
            completion = json.loads(raw.content)
        except ValueError:
            raise Unavailable("the server's reply is not JSON") from None
        return read_completion(completion, rest_of(raw.headers))

    def translate(self, error: openai.OpenAIError) -> MimixError:
        """One of our errors for one of the client's. No header and no address gets into it."""
        if isinstance(error, openai.APITimeoutError):
            return Unavailable("the server did not answer in time")
        if isinstance(error, openai.APIStatusError):
            response = error.response
            return error_of(
                response.status_code,
                _details(error.body),
                wait_of(response.headers, time.time()),
                self.key,
            )
        if isinstance(error, openai.APIConnectionError):
            return Unavailable(f"no connection to the server ({type(error.__cause__).__name__})")
        if isinstance(error, openai.APIResponseValidationError):
            return Unavailable("the server's reply has not the form of a completion")
        return Unavailable(f"the client failed ({type(error).__name__})")

    async def close(self) -> None:
        await self.client.close()


def body(question: Question[Any], settings: VlmSettings) -> dict[str, Any]:
    """What is sent for a question, as JSON. Raises BadInput for a video."""
    sent: dict[str, Any] = {
        "model": settings.model,
        "messages": [
            {"role": message.role, "content": _content(message.role, message.parts)}
            for message in question.messages
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": dict(question.schema)},
        },
    }
    # OpenAI's newer models refuse the older name; the servers that speak the same know only that.
    limit = "max_completion_tokens" if settings.base_url is None else "max_tokens"
    sent[limit] = question.max_output_tokens
    if question.temperature is not None:
        sent["temperature"] = question.temperature
    if question.reasoning_effort is not None:
        sent["reasoning_effort"] = question.reasoning_effort
    return sent


def _content(role: str, parts: tuple[Text | Image | Video, ...]) -> str | list[dict[str, Any]]:
    texts = [part.text for part in parts if isinstance(part, Text)]
    if len(texts) == len(parts) and (role != "user" or len(parts) == 1):
        return "\n\n".join(texts)
    return [_part(part) for part in parts]


def _part(part: Text | Image | Video) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image():
            data = base64.b64encode(part.jpeg).decode()
            picture = {"url": f"data:image/jpeg;base64,{data}"}
            if part.detail != "auto":
                picture["detail"] = part.detail
            return {"type": "image_url", "image_url": picture}
        case Video():
            raise BadInput(
                "the backend openai takes no video", fix="send frames, or use the backend gemini"
            )


def read_completion(completion: Any, rest_seconds: float = 0.0) -> RawReply:
    """The answer in a chat completion, live or from a batch.

    Raises TruncatedReply, Refused, InvalidReply, Unavailable.
    """
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        usage = usage_of(completion.get("usage") or {})
        model = str(completion.get("model") or "")
    except (LookupError, TypeError, AttributeError):
        raise Unavailable("the server's reply has not the form of a completion") from None
    finish = choice.get("finish_reason")
    if message.get("refusal"):
        raise Refused("the model refused to answer", usage)
    if finish == "content_filter":
        raise Refused("the provider's content filter stopped the answer", usage)
    if finish == "length":
        raise TruncatedReply("the answer did not fit into max_output_tokens", usage)
    if not isinstance(message.get("content"), str) or not message["content"].strip():
        raise InvalidReply("the answer is empty", usage)
    return RawReply(message["content"], usage, model, rest_seconds)


def usage_of(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        int(usage.get("prompt_tokens") or 0),
        int(details.get("cached_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
    )


def _details(body: object) -> dict[str, str]:
    """Code and message of an error body: ``{"error": {...}}``, or what is in it."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict):
            return {name: str(inner.get(name) or "") for name in ("code", "type", "message")}
        return {"code": "", "type": "", "message": str(inner)}
    return {"code": "", "type": "", "message": ""}


def error_of(
    status: int, details: Mapping[str, str], wait_seconds: float | None, key: str
) -> MimixError:
    """One of our errors for an HTTP status and the provider's words."""
    said = scrub(f"HTTP {status} {details['message']}".strip(), key)
    codes = {details["code"], details["type"]}
    if "insufficient_quota" in codes:
        return BudgetSpent(
            f"the provider says that the account has nothing left: {said}",
            fix="pay it in there; all answers so far are kept and will not be paid again",
        )
    if codes & {"content_filter", "content_policy_violation"}:
        return Refused(f"the provider's content filter refused the request: {said}")
    if status == 429:
        return RateLimited(said, wait_seconds=wait_seconds)
    if status in (401, 403):
        return BadCredentials(f"the provider does not take the key: {said}", where="api_key_env")
    if status == 404:
        return BadInput(
            f"the server has no such model, or is no such server: {said}", where="model"
        )
    if status in (408, 409) or status >= 500:
        return Unavailable(said, wait_seconds=wait_seconds)
    return RejectedRequest(said)
