"""Chat completions by the official client: OpenAI, and servers with the same API."""

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
from mimix_core.vlm.api_keys import redact
from mimix_core.vlm.protocol import (
    BadCredentials,
    BudgetExceeded,
    ImagePart,
    InvalidResponse,
    RateLimited,
    RawResponse,
    RefusedResponse,
    RejectedRequest,
    TextPart,
    TokenUsage,
    TruncatedResponse,
    Unavailable,
    VideoPart,
    VlmRequest,
)
from mimix_core.vlm.rate_limiter import reset_after, retry_after

# Always given, because the client would otherwise read an address from the environment.
OPENAI_URL = "https://api.openai.com/v1"


class OpenAIBackend:
    """Client of the chat completions API; its own retries are disabled."""

    name = "openai"

    def __init__(self, settings: VlmSettings, key: str) -> None:
        self._settings = settings
        self.key = key
        self.client = openai.AsyncOpenAI(
            api_key=key,
            base_url=settings.base_url or OPENAI_URL,
            max_retries=0,
            timeout=settings.request_timeout_seconds,
        )

    async def send(self, request: VlmRequest[Any]) -> RawResponse:
        try:
            # Not chat.completions.create, which walks through the complete body to rename fields,
            # which takes time and is not needed here.
            raw = await self.client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=request_body(request, self._settings),
            )
        except openai.OpenAIError as error:
            raise self.translate_error(error) from None
        try:
            completion = json.loads(raw.content)
        except ValueError:
            raise Unavailable("the server's response is not JSON") from None
        return parse_completion(completion, reset_after(raw.headers))

    def translate_error(self, error: openai.OpenAIError) -> MimixError:
        """Translate an error of the client; headers and addresses are left out."""
        if isinstance(error, openai.APITimeoutError):
            return Unavailable("the server did not respond in time")
        if isinstance(error, openai.APIStatusError):
            response = error.response
            return openai_error(
                response.status_code,
                _error_details(error.body),
                retry_after(response.headers, time.time()),
                self.key,
            )
        if isinstance(error, openai.APIConnectionError):
            return Unavailable(f"no connection to the server ({type(error.__cause__).__name__})")
        if isinstance(error, openai.APIResponseValidationError):
            return Unavailable("the server's response is not a chat completion")
        return Unavailable(f"the client failed ({type(error).__name__})")

    async def close(self) -> None:
        await self.client.close()


def request_body(request: VlmRequest[Any], settings: VlmSettings) -> dict[str, Any]:
    """Build the JSON body of a request. Raises BadInput for a video."""
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [
            {"role": message.role, "content": _content(message.role, message.parts)}
            for message in request.messages
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": dict(request.schema)},
        },
    }
    # OpenAI's newer models reject the older name; compatible servers know only that one.
    limit = "max_completion_tokens" if settings.base_url is None else "max_tokens"
    body[limit] = request.max_output_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.reasoning_effort is not None:
        body["reasoning_effort"] = request.reasoning_effort
    return body


def _content(
    role: str, parts: tuple[TextPart | ImagePart | VideoPart, ...]
) -> str | list[dict[str, Any]]:
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    if len(texts) == len(parts) and (role != "user" or len(parts) == 1):
        return "\n\n".join(texts)
    return [_part(part) for part in parts]


def _part(part: TextPart | ImagePart | VideoPart) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart():
            data = base64.b64encode(part.jpeg).decode()
            image = {"url": f"data:image/jpeg;base64,{data}"}
            if part.detail != "auto":
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case VideoPart():
            raise BadInput(
                "the backend openai does not support videos",
                fix="send frames, or use the backend gemini",
            )


def parse_completion(completion: Any, pause_seconds: float = 0.0) -> RawResponse:
    """Parse a chat completion, live or from a batch.

    Raises TruncatedResponse, RefusedResponse, InvalidResponse, Unavailable.
    """
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        usage = parse_usage(completion.get("usage") or {})
        model = str(completion.get("model") or "")
    except (LookupError, TypeError, AttributeError):
        raise Unavailable("the server's response is not a chat completion") from None
    finish = choice.get("finish_reason")
    if message.get("refusal"):
        raise RefusedResponse("the model refused to respond", usage)
    if finish == "content_filter":
        raise RefusedResponse("the provider's content filter stopped the response", usage)
    if finish == "length":
        raise TruncatedResponse("the response did not fit into max_output_tokens", usage)
    if not isinstance(message.get("content"), str) or not message["content"].strip():
        raise InvalidResponse("the response is empty", usage)
    return RawResponse(message["content"], usage, model, pause_seconds)


def parse_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Parse the token counts of a completion."""
    details = usage.get("prompt_tokens_details") or {}
    return TokenUsage(
        int(usage.get("prompt_tokens") or 0),
        int(details.get("cached_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
    )


def _error_details(body: object) -> dict[str, str]:
    """Return code, type and message of an error body: ``{"error": {...}}``, or its inner object."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict):
            return {name: str(inner.get(name) or "") for name in ("code", "type", "message")}
        return {"code": "", "type": "", "message": str(inner)}
    return {"code": "", "type": "", "message": ""}


def openai_error(
    status: int, details: Mapping[str, str], retry_after_seconds: float | None, key: str
) -> MimixError:
    """Return the error for an HTTP status with the provider's codes and message."""
    text = redact(f"HTTP {status} {details['message']}".strip(), key)
    codes = {details["code"], details["type"]}
    if "insufficient_quota" in codes:
        return BudgetExceeded(
            f"the account at the provider has no credit left: {text}",
            fix="add credit there; all responses so far are stored and will not be paid again",
        )
    if codes & {"content_filter", "content_policy_violation"}:
        return RefusedResponse(f"the provider's content filter refused the request: {text}")
    if status == 429:
        return RateLimited(text, retry_after_seconds=retry_after_seconds)
    if status in (401, 403):
        return BadCredentials(f"the provider rejected the API key: {text}", where="api_key_env")
    if status == 404:
        return BadInput(f"the server does not know the model or the path: {text}", where="model")
    if status in (408, 409) or status >= 500:
        return Unavailable(text, retry_after_seconds=retry_after_seconds)
    return RejectedRequest(text)
