"""Gemini by the retired SDK google-generativeai: text and images only.

For installations that still use it; backend ``gemini`` also supports videos.
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
from mimix_core.vlm.backends.gemini import gemini_error, parse_response, system_text
from mimix_core.vlm.protocol import (
    ImagePart,
    ModelInput,
    RawResponse,
    TextPart,
    Unavailable,
    VideoPart,
)
from mimix_core.vlm.rate_limiter import retry_after

# Type checkers cannot see the names that it exports.
sdk: Any = importlib.import_module("google.generativeai")
json_format: Any = importlib.import_module("google.protobuf.json_format")


class GenerativeAIBackend:
    """Client with a configuration per process; its calls block, so each request has a thread."""

    name = "google-generativeai"

    def __init__(self, settings: VlmSettings, key: str) -> None:
        reject_unsupported_settings(settings)
        self._settings = settings
        self._key = key
        # REST instead of gRPC, because it supports any address, also with http.
        sdk.configure(
            api_key=key,
            transport="rest",
            client_options={"api_endpoint": settings.base_url} if settings.base_url else None,
        )

    async def send(self, request: ModelInput) -> RawResponse:
        model = sdk.GenerativeModel(
            self._settings.model, system_instruction=system_text(request.messages) or None
        )
        contents = [
            {
                "role": "model" if message.role == "assistant" else "user",
                "parts": [_part(part) for part in message.parts],
            }
            for message in request.messages
            if message.role != "system"
        ]
        try:
            response = await asyncio.to_thread(
                model.generate_content,
                contents,
                generation_config=_generation_config(request, self._settings),
                request_options={"timeout": self._settings.request_timeout_seconds, "retry": None},
            )
        except exceptions.GoogleAPICallError as error:
            raise self._translate_error(error) from None
        except requests.Timeout:
            raise Unavailable("the server did not respond in time") from None
        except requests.RequestException as error:
            raise Unavailable(f"no connection to the server ({type(error).__name__})") from None
        except (ValueError, json_format.Error) as error:
            raise Unavailable(
                f"the server's response is malformed ({type(error).__name__})"
            ) from None
        return parse_response(_named_enums(response.to_dict()))

    def _translate_error(self, error: exceptions.GoogleAPICallError) -> MimixError:
        headers = getattr(error.response, "headers", None) or {}
        return gemini_error(
            int(error.code or 0), "", error.message, retry_after(headers, time.time()), self._key
        )

    async def close(self) -> None:
        """Do nothing: the SDK has no open resources."""


def reject_unsupported_settings(settings: VlmSettings) -> None:
    """Raise BadInput for settings that the retired SDK has no place for."""
    default = VlmSettings()
    for name in ("seed", "response_format", "extra_body", "headers_env"):
        if getattr(settings, name) != getattr(default, name):
            raise BadInput(
                f"the backend google-generativeai does not support {name}",
                where=name,
                fix="use the backend gemini",
            )


def _generation_config(request: ModelInput, settings: VlmSettings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "max_output_tokens": request.max_output_tokens + settings.reasoning_allowance,
        "temperature": request.temperature,
    }
    if request.top_p is not None:
        config["top_p"] = request.top_p
    if request.top_k is not None:
        config["top_k"] = request.top_k
    if request.schema:
        config["response_mime_type"] = "application/json"
        config["response_schema"] = simplify_schema(request.schema)
    return config


def _part(part: TextPart | ImagePart | VideoPart) -> Any:
    match part:
        case TextPart(text):
            return text
        case ImagePart(jpeg):
            return {"mime_type": "image/jpeg", "data": jpeg}
        case VideoPart():
            raise BadInput(
                "the backend google-generativeai does not support videos",
                fix="use the backend gemini",
            )


def simplify_schema(node: Any) -> Any:
    """Remove the keywords that this API's older schema version does not know."""
    if isinstance(node, list):
        return [simplify_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: simplify_schema(item) for name, item in value.items()}
        if key == "properties"
        else simplify_schema(value)
        for key, value in node.items()
        if key not in ("additionalProperties", "pattern", "minimum", "maximum")
    }


def _named_enums(response: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the enum numbers of the SDK by names."""
    named = dict(response)
    for candidate in named.get("candidates") or []:
        number = candidate.get("finish_reason")
        candidate["finish_reason"] = sdk.protos.Candidate.FinishReason(number or 0).name
    feedback = named.get("prompt_feedback") or {}
    if feedback.get("block_reason"):
        reason = sdk.protos.GenerateContentResponse.PromptFeedback.BlockReason
        named["prompt_feedback"] = {"block_reason": reason(feedback["block_reason"]).name}
    return named
