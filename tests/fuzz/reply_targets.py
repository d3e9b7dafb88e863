"""Targets: what providers of vision-language models send, and what their models write."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from pydantic import ValidationError

from mimix_core.domain.library import Style
from mimix_core.stages.captions.response_schema import (
    CaptionResponse,
    build_response_schema,
    caption_from_response,
)
from mimix_core.vlm.backends.gemini import MALFORMED, parse_response
from mimix_core.vlm.backends.openai import parse_completion
from mimix_core.vlm.backends.provider_errors import status_error
from mimix_core.vlm.rate_limiter import reset_after, retry_after
from mimix_core.vlm.response_parser import UnparsableResponse, parse_json_object
from tests.fuzz.mutations import spoil_json, spoil_text
from tests.fuzz.target import Refused, Target

_WRITTEN = {
    "seen": [{"character": "Tom", "evidence": "a gray cat"}],
    "actions": [{"character": "Tom", "action": "runs through the kitchen."}],
    "context": "a kitchen at night",
    "style": "cartoon",
}
_TEXT = json.dumps(_WRITTEN)
_COMPLETION = {
    "id": "1",
    "model": "m-2024",
    "choices": [{"message": {"role": "assistant", "content": _TEXT}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 3},
    },
}
_PARTS_OF_IT = {
    "choices": [{"message": {"content": [{"type": "text", "text": _TEXT}], "refusal": None}}],
    "usage": None,
}
_GEMINI = {
    "candidates": [{"content": {"parts": [{"text": _TEXT}]}, "finish_reason": "STOP"}],
    "usage_metadata": {"prompt_token_count": 9, "candidates_token_count": 4},
    "model_version": "g",
}

_PARTS = (
    *("```json\n", "```", "<think>", "</think>", "<reasoning>", "{", "}", "[", "]", '"', "\\", ","),
    *('{"a":', '"\\ud800"', "NaN", "Infinity", "1e999", "9" * 5000, "\ufeff", ",}", '{"seen": []}'),
    *('\\"', "<think>{}</think>", "[[", "{}", "\\u0000", "'", "null"),
)
SCHEMA = build_response_schema(("Tom", "Jerry"), Style.CARTOON)


def spoil_reply(data: bytes, rng: Random) -> bytes:
    """Spoil a reply; half of the time within the JSON text that its model wrote."""
    kind, content = data[:1], data[1:]
    if rng.random() < 0.3:
        return kind + spoil_text(content, rng, _PARTS)
    if kind != b"W" and rng.random() < 0.5 and _TEXT_IN_JSON in content:
        written = spoil_text(_TEXT.encode(), rng, _PARTS).decode(errors="replace")
        return kind + content.replace(_TEXT_IN_JSON, json.dumps(written).encode())
    return kind + spoil_json(content, rng)


_TEXT_IN_JSON = json.dumps(_TEXT).encode()


def read_reply(data: bytes, _: Path) -> None:
    """Read a reply as its backend does, then the caption in the text."""
    kind, content = data[:1], data[1:]
    text = content.decode("utf-8", "replace") if kind == b"W" else _text_of(kind, content)
    try:
        value = CaptionResponse.model_validate(parse_json_object(text, SCHEMA))
    except (UnparsableResponse, ValidationError) as error:
        raise Refused(str(error)[:200]) from error
    caption_from_response(value)


def _text_of(kind: bytes, content: bytes) -> str:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:  # as the backends' send does
        raise Refused("not JSON") from error
    if kind == b"G":
        return parse_response(_as_google_genai_parses(document)).text
    return parse_completion(document, "key").text


def _as_google_genai_parses(document: Any) -> dict[str, Any]:
    """Validate a response with the client's own type, whose errors the backend translates."""
    from google.genai import types

    try:
        response = types.GenerateContentResponse.model_validate(document)
        return response.model_dump(mode="json", exclude_none=True)
    except MALFORMED as error:
        raise Refused("malformed") from error


_ERROR = {"error": {"message": "Rate limit reached: 3 RPD", "code": "rate", "type": "t"}}
_ROUTED = {"error": {"code": 403, "message": "x", "metadata": {"raw": "{}", "reasons": ["a"]}}}
_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
_TIMES = (b"12", b"1m30s", b"6m0s", b"Wed, 21 Oct 2026 07:28:00 GMT", b"100ms")


def spoil_error(data: bytes, rng: Random) -> bytes:
    head, _, body = data.partition(b"\n")
    if rng.random() < 0.3:
        head = rng.choice(_TIMES)
        head = spoil_text(head, rng, ("s", "m", "h", "ms", "-", "9" * 400, "GMT", "1e999", ":"))
        return head.replace(b"\n", b"") + b"\n" + body
    return (
        head
        + b"\n"
        + (spoil_json(body, rng) if body[:1] == b"{" else spoil_text(body, rng, _PARTS))
    )


def read_error(data: bytes, _: Path) -> None:
    """Read the header with a waiting time, which is the first line, and the body of an error."""
    head, _, body = data.partition(b"\n")
    given = head.decode("latin-1")
    names = ("retry-after", "retry-after-ms", "x-ratelimit-reset-requests")
    headers = dict.fromkeys((*names, "x-ratelimit-reset-tokens"), given)
    waiting = retry_after(headers, 1_700_000_000.0)
    reset_after(headers | {"x-ratelimit-remaining-requests": "0"})
    for status in (400, 403, 404, 413, 429, 500):
        str(status_error(status, body, waiting, "key"))


TARGETS = (
    Target(
        "replies",
        (
            b"W" + _TEXT.encode(),
            b"W<think>hm {}</think>```json\n" + _TEXT.encode() + b"\n```",
            b"O" + json.dumps(_COMPLETION).encode(),
            b"O" + json.dumps(_PARTS_OF_IT).encode(),
            b"G" + json.dumps(_GEMINI).encode(),
        ),
        spoil_reply,
        read_reply,
    ),
    Target(
        "provider-errors",
        (
            b"12\n" + json.dumps(_ERROR).encode(),
            b"1m30s\n" + json.dumps(_ROUTED).encode(),
            b"Wed, 21 Oct 2026 07:28:00 GMT\n" + _PAGE,
        ),
        spoil_error,
        read_error,
    ),
)
