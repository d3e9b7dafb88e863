"""Gemini by google-genai: images are sent inline, videos are uploaded."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx2
from google import genai
from google.genai import errors, types

from mimix_core.errors import BadInput, MimixError
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.api_keys import read_headers, redact
from mimix_core.vlm.backends.gemini_files import GeminiFiles
from mimix_core.vlm.backends.provider_errors import connection_error, daily_quota_exceeded
from mimix_core.vlm.protocol import (
    BadCredentials,
    ChatMessage,
    ImagePart,
    InvalidResponse,
    ModelInput,
    RateLimited,
    RawResponse,
    RefusedResponse,
    RejectedRequest,
    TextPart,
    TokenUsage,
    TruncatedResponse,
    Unavailable,
    VideoPart,
    with_schema_in_prompt,
)
from mimix_core.vlm.rate_limiter import parse_duration, retry_after

# Always given, because the client would otherwise read an address from the environment.
GEMINI_URL = "https://generativelanguage.googleapis.com"
MALFORMED = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What the client raises for a body that is not JSON, or that has values of other types."""
REFUSAL_REASONS = {
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "LANGUAGE",
    "IMAGE_SAFETY",
}


class GeminiBackend:
    """Client of Gemini; its own retries are disabled."""

    name = "gemini"

    def __init__(self, settings: VlmSettings, key: str) -> None:
        self._settings = settings
        self._key = key
        self.client = genai.Client(
            vertexai=False,
            api_key=key,
            http_options=types.HttpOptions(
                base_url=settings.base_url or GEMINI_URL,
                timeout=max(1, round(settings.request_timeout_seconds * 1000)),
                retry_options=types.HttpRetryOptions(attempts=1),
                headers=read_headers(settings),
                extra_body=settings.extra_body or None,
            ),
        ).aio
        self._files = GeminiFiles(self.client, settings.request_timeout_seconds)

    async def send(self, request: ModelInput) -> RawResponse:
        messages = request.messages
        if self._settings.response_format != "json_schema":
            messages = with_schema_in_prompt(messages, request.schema)
        try:
            async with AsyncExitStack() as uploaded:
                contents = [
                    types.Content(
                        role="model" if message.role == "assistant" else "user",
                        parts=[await self._part(part, uploaded) for part in message.parts],
                    )
                    for message in messages
                    if message.role != "system"
                ]
                response = await self.client.models.generate_content(
                    model=self._settings.model,
                    contents=contents,
                    config=_config(request, self._settings),
                )
        except errors.APIError as error:
            raise self._translate_error(error) from None
        except httpx2.TimeoutException:
            raise Unavailable("the server did not respond in time") from None
        except httpx2.HTTPError as error:
            raise connection_error(error, self._settings.base_url or GEMINI_URL) from None
        except MALFORMED as error:
            raise Unavailable(
                f"the server's response is malformed ({type(error).__name__})"
            ) from None
        return parse_response(response.model_dump(mode="json", exclude_none=True))

    async def _part(
        self, part: TextPart | ImagePart | VideoPart, uploaded: AsyncExitStack
    ) -> types.Part:
        match part:
            case TextPart(text):
                return types.Part(text=text)
            case ImagePart(jpeg):
                return types.Part(inline_data=types.Blob(data=jpeg, mime_type="image/jpeg"))
            case VideoPart():
                file = await uploaded.enter_async_context(self._files.uploaded(part))
                return types.Part(
                    file_data=types.FileData(file_uri=file.uri, mime_type=file.mime_type),
                    video_metadata=None if part.fps is None else types.VideoMetadata(fps=part.fps),
                )

    def _translate_error(self, error: errors.APIError) -> MimixError:
        headers = getattr(error.response, "headers", None) or {}
        return gemini_error(
            error.code, str(error.status or ""), str(error.message or ""),
            _retry_after(headers, error.details), self._key, error.details,
        )  # fmt: skip

    async def close(self) -> None:
        await self._files.close()
        await self.client.aclose()


def _config(request: ModelInput, settings: VlmSettings) -> types.GenerateContentConfig:
    response_format = settings.response_format if request.schema else "prompt"
    config = types.GenerateContentConfig(
        system_instruction=system_text(request.messages) or None,
        response_mime_type=None if response_format == "prompt" else "application/json",
        response_json_schema=dict(request.schema) if response_format == "json_schema" else None,
        max_output_tokens=request.max_output_tokens + settings.reasoning_allowance,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=settings.seed,
    )
    effort = request.reasoning_effort
    if effort is not None:
        # Gemini 2.5 expects a number of tokens, later models a level.
        config.thinking_config = (
            types.ThinkingConfig(thinking_budget=int(effort))
            if re.fullmatch(r"-?\d+", effort)
            else types.ThinkingConfig(thinking_level=types.ThinkingLevel(effort.upper()))
        )
    return config


def system_text(messages: Sequence[ChatMessage]) -> str:
    """Join the texts of all system messages."""
    return "\n\n".join(
        part.text
        for message in messages
        if message.role == "system"
        for part in message.parts
        if isinstance(part, TextPart)
    )


def parse_response(response: Mapping[str, Any]) -> RawResponse:
    """Parse a generateContent response with snake_case names.

    Raises TruncatedResponse, RefusedResponse, InvalidResponse.
    """
    counts = response.get("usage_metadata") or {}
    usage = TokenUsage(
        int(counts.get("prompt_token_count") or 0),
        min(
            int(counts.get("cached_content_token_count") or 0),
            int(counts.get("prompt_token_count") or 0),
        ),
        # Thoughts are billed as output.
        int(counts.get("candidates_token_count") or 0)
        + int(counts.get("thoughts_token_count") or 0),
    )
    blocked = (response.get("prompt_feedback") or {}).get("block_reason")
    if blocked:
        raise RefusedResponse(
            f"the provider's content filter refused the request ({blocked})", usage
        )
    candidates = response.get("candidates") or []
    if not candidates:
        raise InvalidResponse("the response is empty", usage)
    finish = str(candidates[0].get("finish_reason") or "")
    parts = (candidates[0].get("content") or {}).get("parts") or []
    text = "".join(str(part.get("text") or "") for part in parts if not part.get("thought"))
    if finish == "MAX_TOKENS":
        raise TruncatedResponse("the response did not fit into max_output_tokens", usage, text=text)
    if finish in REFUSAL_REASONS:
        raise RefusedResponse(
            f"the provider's content filter stopped the response ({finish})", usage, text=text
        )
    if not text.strip():
        raise InvalidResponse(f"the response is empty ({finish})", usage)
    return RawResponse(text, usage, str(response.get("model_version") or ""))


def _retry_after(headers: Mapping[str, str], details: Any) -> float | None:
    """Return the seconds to wait by the headers or the RetryInfo of the error's body."""
    seconds = retry_after(headers, time.time())
    if seconds is not None:
        return seconds
    retry_delay = re.search(r"['\"]retryDelay['\"]: *['\"]([\d.]+m?s)['\"]", str(details))
    return parse_duration(retry_delay.group(1)) if retry_delay else None


def gemini_error(
    code: int,
    status: str,
    message: str,
    retry_after_seconds: float | None,
    key: str,
    details: object = None,
) -> MimixError:
    """Return the error for an HTTP code with Google's status, message and error details."""
    text = redact(f"HTTP {code} {message}".strip(), key)
    # The quota's name is in the details, e.g. GenerateRequestsPerDayPerProjectPerModel-FreeTier.
    if code == 429 and re.search(r"PerDay|per day", f"{message} {details}"):
        return daily_quota_exceeded(text)
    if code in (401, 403) or (code == 400 and "API key" in message):
        return BadCredentials(f"the provider rejected the API key: {text}", where="api_key_env")
    if code == 429:
        return RateLimited(text, retry_after_seconds=retry_after_seconds)
    if code == 404:
        return BadInput(f"the server does not know the model or the path: {text}", where="model")
    if code in (408, 499) or code >= 500 or status in ("UNAVAILABLE", "INTERNAL"):
        return Unavailable(text, retry_after_seconds=retry_after_seconds)
    return RejectedRequest(text)
