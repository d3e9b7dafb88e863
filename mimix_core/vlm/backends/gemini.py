"""Gemini by google-genai: pictures inline, videos uploaded, looked at, and deleted again."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx2
from google import genai
from google.genai import errors, types

from mimix_core.errors import BadInput, MimixError
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.api_keys import scrub
from mimix_core.vlm.protocol import (
    BadCredentials,
    Image,
    InvalidReply,
    Message,
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
from mimix_core.vlm.rate_limiter import span_of, wait_of

# Given in full: the client would take an address from the environment otherwise.
GEMINI_URL = "https://generativelanguage.googleapis.com"
POLL_SECONDS = 1.0
REFUSALS = {
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "LANGUAGE",
    "IMAGE_SAFETY",
}


class GeminiBackend:
    """One attempt a question; the client's own retries are off."""

    name = "gemini"

    def __init__(self, settings: VlmSettings, key: str) -> None:
        self._settings = settings
        self._key = key
        self.client = genai.Client(
            vertexai=False,
            api_key=key,
            http_options=types.HttpOptions(
                base_url=settings.base_url or GEMINI_URL,
                timeout=max(1, round(settings.timeout_seconds * 1000)),
                retry_options=types.HttpRetryOptions(attempts=1),
            ),
        ).aio

    async def ask(self, question: Question[Any]) -> RawReply:
        try:
            async with AsyncExitStack() as uploaded:
                contents = [
                    types.Content(
                        role="model" if message.role == "assistant" else "user",
                        parts=[await self._part(part, uploaded) for part in message.parts],
                    )
                    for message in question.messages
                    if message.role != "system"
                ]
                response = await self.client.models.generate_content(
                    model=self._settings.model, contents=contents, config=_config(question)
                )
        except errors.APIError as error:
            raise self._translate(error) from None
        except httpx2.TimeoutException:
            raise Unavailable("the server did not answer in time") from None
        except httpx2.HTTPError as error:
            raise Unavailable(f"no connection to the server ({type(error).__name__})") from None
        except ValueError as error:  # a body that is no JSON, and pydantic's errors
            raise Unavailable(
                f"the server's reply has not the form of an answer ({type(error).__name__})"
            ) from None
        return read_response(response.model_dump(mode="json", exclude_none=True))

    async def _part(self, part: Text | Image | Video, uploaded: AsyncExitStack) -> types.Part:
        match part:
            case Text(text):
                return types.Part(text=text)
            case Image(jpeg):
                return types.Part(inline_data=types.Blob(data=jpeg, mime_type="image/jpeg"))
            case Video():
                file = await self._upload(part, uploaded)
                return types.Part(
                    file_data=types.FileData(file_uri=file.uri, mime_type=file.mime_type),
                    video_metadata=types.VideoMetadata(fps=part.fps),
                )

    async def _upload(self, video: Video, uploaded: AsyncExitStack) -> types.File:
        """The file at the provider, ready to be looked at; it is deleted with ``uploaded``.

        Raises Unavailable when it does not get ready in time, RejectedRequest when it cannot be.
        """
        # A name of ours: a file whose upload was broken off can be deleted, too.
        name = f"mimix-{video.sha256[:16]}-{time.time_ns():x}"
        uploaded.push_async_callback(self._delete, f"files/{name}")
        file = await self.client.files.upload(
            file=video.path,
            config=types.UploadFileConfig(name=name, mime_type=_mime(video)),
        )
        deadline = time.monotonic() + self._settings.timeout_seconds
        while file.state == types.FileState.PROCESSING:
            if time.monotonic() > deadline:
                raise Unavailable("the uploaded video did not get ready in time")
            await asyncio.sleep(POLL_SECONDS)
            file = await self.client.files.get(name=f"files/{name}")
        if file.state == types.FileState.FAILED:
            raise RejectedRequest("the provider cannot read the video")
        return file

    async def _delete(self, name: str) -> None:
        """Delete a file also when this task is being cancelled.

        One that cannot be deleted now is gone after two days, as the provider does it by itself;
        an answer that was paid must not be lost over it.
        """
        with suppress(errors.APIError, httpx2.HTTPError):
            await asyncio.shield(self.client.files.delete(name=name))

    def _translate(self, error: errors.APIError) -> MimixError:
        headers = getattr(error.response, "headers", None) or {}
        return error_of(
            error.code, str(error.status or ""), str(error.message or ""),
            _wait(headers, error.details), self._key,
        )  # fmt: skip

    async def close(self) -> None:
        await self.client.aclose()


def _config(question: Question[Any]) -> types.GenerateContentConfig:
    config = types.GenerateContentConfig(
        system_instruction=system_text(question.messages) or None,
        response_mime_type="application/json",
        response_json_schema=dict(question.schema),
        max_output_tokens=question.max_output_tokens,
        temperature=question.temperature,
    )
    effort = question.reasoning_effort
    if effort is not None:
        # Gemini 2.5 takes a number of tokens, later models a level.
        config.thinking_config = (
            types.ThinkingConfig(thinking_budget=int(effort))
            if re.fullmatch(r"-?\d+", effort)
            else types.ThinkingConfig(thinking_level=types.ThinkingLevel(effort.upper()))
        )
    return config


def system_text(messages: Sequence[Message]) -> str:
    return "\n\n".join(
        part.text
        for message in messages
        if message.role == "system"
        for part in message.parts
        if isinstance(part, Text)
    )


def _mime(video: Video) -> str:
    return "video/webm" if video.path.suffix == ".webm" else "video/mp4"


def read_response(response: Mapping[str, Any]) -> RawReply:
    """The answer in a generateContent response, with snake_case names.

    Raises TruncatedReply, Refused, InvalidReply.
    """
    counts = response.get("usage_metadata") or {}
    usage = Usage(
        int(counts.get("prompt_token_count") or 0),
        int(counts.get("cached_content_token_count") or 0),
        # Thoughts are billed as output.
        int(counts.get("candidates_token_count") or 0)
        + int(counts.get("thoughts_token_count") or 0),
    )
    blocked = (response.get("prompt_feedback") or {}).get("block_reason")
    if blocked:
        raise Refused(f"the provider's content filter refused the request ({blocked})", usage)
    candidates = response.get("candidates") or []
    if not candidates:
        raise InvalidReply("the answer is empty", usage)
    finish = str(candidates[0].get("finish_reason") or "")
    if finish == "MAX_TOKENS":
        raise TruncatedReply("the answer did not fit into max_output_tokens", usage)
    if finish in REFUSALS:
        raise Refused(f"the provider's content filter stopped the answer ({finish})", usage)
    parts = (candidates[0].get("content") or {}).get("parts") or []
    text = "".join(str(part.get("text") or "") for part in parts if not part.get("thought"))
    if not text.strip():
        raise InvalidReply(f"the answer is empty ({finish})", usage)
    return RawReply(text, usage, str(response.get("model_version") or ""))


def _wait(headers: Mapping[str, str], details: Any) -> float | None:
    """Seconds to wait, by the headers or by the RetryInfo in the error's body."""
    said = wait_of(headers, time.time())
    if said is not None:
        return said
    found = re.search(r"['\"]retryDelay['\"]: *['\"]([\d.]+m?s)['\"]", str(details))
    return span_of(found.group(1)) if found else None


def error_of(
    code: int, status: str, message: str, wait_seconds: float | None, key: str
) -> MimixError:
    """One of our errors for an HTTP code, Google's status and its words."""
    said = scrub(f"HTTP {code} {message}".strip(), key)
    if code in (401, 403) or (code == 400 and "API key" in message):
        return BadCredentials(f"the provider does not take the key: {said}", where="api_key_env")
    if code == 429:
        return RateLimited(said, wait_seconds=wait_seconds)
    if code == 404:
        return BadInput(
            f"the server has no such model, or is no such server: {said}", where="model"
        )
    if code in (408, 499) or code >= 500 or status in ("UNAVAILABLE", "INTERNAL"):
        return Unavailable(said, wait_seconds=wait_seconds)
    return RejectedRequest(said)
