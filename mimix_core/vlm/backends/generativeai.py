"""Gemini by google-generativeai, whose SDK is retired: text and pictures, nothing more.

For those who still have it. ``gemini`` does the same and takes videos.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Mapping
from typing import Any

import requests
from google.api_core import exceptions

from mimix_core.errors import BadInput, MimixError
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.backends.gemini import error_of, read_response, system_text
from mimix_core.vlm.protocol import Image, Question, RawReply, Text, Unavailable, Video
from mimix_core.vlm.rate_limiter import wait_of

# It exports its names in a way that type checkers do not see.
sdk: Any = importlib.import_module("google.generativeai")
json_format: Any = importlib.import_module("google.protobuf.json_format")


class GenerativeAIBackend:
    """The SDK is configured for a whole process, and blocks: each request has a thread."""

    name = "google-generativeai"

    def __init__(self, settings: VlmSettings, key: str) -> None:
        self._settings = settings
        self._key = key
        # REST and not gRPC: any address can be given, with http too.
        sdk.configure(
            api_key=key,
            transport="rest",
            client_options={"api_endpoint": settings.base_url} if settings.base_url else None,
        )

    async def ask(self, question: Question[Any]) -> RawReply:
        model = sdk.GenerativeModel(
            self._settings.model, system_instruction=system_text(question.messages) or None
        )
        contents = [
            {
                "role": "model" if message.role == "assistant" else "user",
                "parts": [_part(part) for part in message.parts],
            }
            for message in question.messages
            if message.role != "system"
        ]
        try:
            response = await asyncio.to_thread(
                model.generate_content,
                contents,
                generation_config={
                    "response_mime_type": "application/json",
                    "response_schema": open_schema(question.schema),
                    "max_output_tokens": question.max_output_tokens,
                    "temperature": question.temperature,
                },
                request_options={"timeout": self._settings.timeout_seconds, "retry": None},
            )
        except exceptions.GoogleAPICallError as error:
            raise self._translate(error) from None
        except requests.Timeout:
            raise Unavailable("the server did not answer in time") from None
        except requests.RequestException as error:
            raise Unavailable(f"no connection to the server ({type(error).__name__})") from None
        except (ValueError, json_format.Error) as error:
            raise Unavailable(
                f"the server's reply has not the form of an answer ({type(error).__name__})"
            ) from None
        return read_response(_named(response.to_dict()))

    def _translate(self, error: exceptions.GoogleAPICallError) -> MimixError:
        headers = getattr(error.response, "headers", None) or {}
        return error_of(
            int(error.code or 0), "", error.message, wait_of(headers, time.time()), self._key
        )

    async def close(self) -> None:
        """The SDK holds nothing open that could be closed."""


def _part(part: Text | Image | Video) -> Any:
    match part:
        case Text(text):
            return text
        case Image(jpeg):
            return {"mime_type": "image/jpeg", "data": jpeg}
        case Video():
            raise BadInput(
                "the backend google-generativeai takes no video here", fix="use the backend gemini"
            )


def open_schema(node: Any) -> Any:
    """The schema without what this API's older dialect does not know."""
    if isinstance(node, list):
        return [open_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: open_schema(item) for name, item in value.items()}
        if key == "properties"
        else open_schema(value)
        for key, value in node.items()
        if key not in ("additionalProperties", "pattern", "minimum", "maximum")
    }


def _named(response: Mapping[str, Any]) -> dict[str, Any]:
    """The response with its enums by name: the SDK gives numbers."""
    found = dict(response)
    for candidate in found.get("candidates") or []:
        number = candidate.get("finish_reason")
        candidate["finish_reason"] = sdk.protos.Candidate.FinishReason(number or 0).name
    feedback = found.get("prompt_feedback") or {}
    if feedback.get("block_reason"):
        reason = sdk.protos.GenerateContentResponse.PromptFeedback.BlockReason
        found["prompt_feedback"] = {"block_reason": reason(feedback["block_reason"]).name}
    return found
