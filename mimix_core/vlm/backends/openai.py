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
from mimix_core.vlm.api_keys import read_headers
from mimix_core.vlm.backends.provider_errors import connection_error, embedded_error, status_error
from mimix_core.vlm.protocol import (
    ImagePart,
    InvalidResponse,
    ModelInput,
    RawResponse,
    RefusedResponse,
    TextPart,
    TokenUsage,
    TruncatedResponse,
    Unavailable,
    VideoPart,
    with_schema_in_prompt,
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
            default_headers=read_headers(settings),
        )

    async def send(self, request: ModelInput) -> RawResponse:
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
        except (ValueError, RecursionError):
            raise Unavailable("the server's response is not JSON") from None
        return parse_completion(completion, self.key, reset_after(raw.headers))

    def translate_error(self, error: openai.OpenAIError) -> MimixError:
        """Translate an error of the client; headers are left out."""
        if isinstance(error, openai.APITimeoutError):
            return Unavailable("the server did not respond in time")
        if isinstance(error, openai.APIStatusError):
            response = error.response
            return status_error(
                response.status_code,
                error.body if error.body is not None else response.content,
                retry_after(response.headers, time.time()),
                self.key,
            )
        if isinstance(error, openai.APIConnectionError):
            return connection_error(error, str(self.client.base_url))
        if isinstance(error, openai.APIResponseValidationError):
            return Unavailable("the server's response is not a chat completion")
        return Unavailable(f"the client failed ({type(error).__name__})")

    async def close(self) -> None:
        await self.client.close()


def request_body(request: ModelInput, settings: VlmSettings) -> dict[str, Any]:
    """Build the JSON body of a request. Raises BadInput for a video."""
    messages = request.messages
    if settings.response_format != "json_schema":
        messages = with_schema_in_prompt(messages, request.schema)
    body: dict[str, Any] = dict(settings.extra_body)
    body["model"] = settings.model
    body["messages"] = [
        {"role": message.role, "content": _content(message.role, message.parts)}
        for message in messages
    ]
    match settings.response_format if request.schema else "prompt":
        case "json_schema":
            schema = {"name": "answer", "strict": True, "schema": dict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        case "json_object":
            body["response_format"] = {"type": "json_object"}
    limit = settings.output_limit
    if limit == "auto":
        # OpenAI's newer models reject the older name; compatible servers know only that one.
        limit = "max_completion_tokens" if settings.base_url is None else "max_tokens"
    body[limit] = request.max_output_tokens + settings.reasoning_allowance
    if settings.seed is not None:
        body["seed"] = settings.seed
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.top_k is not None:
        body["top_k"] = request.top_k
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


def parse_completion(completion: Any, key: str, pause_seconds: float = 0.0) -> RawResponse:
    """Parse a chat completion, live or from a batch.

    Raises TruncatedResponse, RefusedResponse, InvalidResponse, Unavailable, and the errors that
    servers report with status 200.
    """
    if isinstance(completion, dict) and (error := embedded_error(completion, key)):
        raise error
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        usage = parse_usage(completion["usage"]) if completion.get("usage") else None
        model = str(completion.get("model") or "")
        content, refused = message.get("content"), message.get("refusal")
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError):
        raise Unavailable("the server's response is not a chat completion") from None
    finish = choice.get("finish_reason")
    text = _content_text(content)
    if refused:
        raise RefusedResponse("the model refused to respond", usage, text=str(refused))
    if finish == "content_filter":
        raise RefusedResponse(
            "the provider's content filter stopped the response", usage, text=text
        )
    if finish == "length":
        raise TruncatedResponse("the response did not fit into max_output_tokens", usage, text=text)
    if not text.strip():
        raise InvalidResponse("the response is empty", usage)
    return RawResponse(text, usage, model, pause_seconds)


def _content_text(content: Any) -> str:
    """Return the text of a message, whose content may be a list of parts."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def parse_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Parse the token counts of a completion. Raises ValueError for a negative one."""
    details = usage.get("prompt_tokens_details") or {}
    input_tokens = int(usage.get("prompt_tokens") or 0)
    if min(input_tokens, int(usage.get("completion_tokens") or 0)) < 0:
        raise ValueError("a negative number of tokens")
    return TokenUsage(
        input_tokens,
        # Some servers count cached tokens beside the others and not among them.
        min(int(details.get("cached_tokens") or 0), input_tokens),
        int(usage.get("completion_tokens") or 0),
    )
