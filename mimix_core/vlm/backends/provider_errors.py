"""Translate errors of chat completions servers: OpenAI, OpenRouter, vLLM, llama.cpp and proxies.

Servers differ in where they put an error: the HTTP status, ``{"error": {...}}``, ``{"error":
"text"}``, a page of HTML, or a response with status 200 that contains an error. What it means for
the run is decided here.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mimix_core.errors import BadInput, MimixError
from mimix_core.vlm.api_keys import redact
from mimix_core.vlm.protocol import (
    BadCredentials,
    BudgetExceeded,
    RateLimited,
    RefusedResponse,
    RejectedRequest,
    Unavailable,
)

MAX_MESSAGE_CHARS = 500
_MAX_PAGE_CHARS = 10_000
RESUME = "all responses so far are stored and will not be paid again"

_NO_CREDIT = {
    "insufficient_quota",
    "insufficient_credits",
    "billing_hard_limit_reached",
    "billing_not_active",
}
_CONTENT_FILTER = {"content_filter", "content_policy_violation", "moderation_blocked"}
_MODERATION = re.compile(r"moderation|flagged|content (?:policy|filter)|safety system", re.I)
_PER_DAY = re.compile(r"per[ _-]?day|daily|\b[RT]PD\b|free-models-per-day", re.I)
_TOO_LARGE = re.compile(r"request too large|reduce your (?:message|prompt)|larger than", re.I)


@dataclass(frozen=True)
class ErrorDetails:
    """What an error body says."""

    message: str = ""
    codes: frozenset[str] = frozenset()
    is_moderation: bool = False


def parse_error_body(body: object) -> ErrorDetails:
    """Parse an error body: ``{"error": {...}}``, its inner object, a string, or HTML."""
    if isinstance(body, bytes):
        body = body.decode(errors="replace")
    if isinstance(body, str):
        try:
            return parse_error_body(json.loads(body))
        except (ValueError, RecursionError):
            return ErrorDetails(_plain_text(body))
    if not isinstance(body, Mapping):
        return ErrorDetails("" if body is None else _shorten(str(body)))
    inner = body.get("error", body)
    if not isinstance(inner, Mapping):
        return ErrorDetails(_plain_text(str(inner)))
    metadata = inner.get("metadata")
    details = metadata if isinstance(metadata, Mapping) else {}
    message = str(inner.get("message") or inner.get("detail") or "")
    # OpenRouter puts the words of the provider behind it there.
    if details.get("raw"):
        message = f"{message}: {details['raw']}"
    return ErrorDetails(
        _plain_text(message),
        frozenset(str(inner[name]) for name in ("code", "type") if inner.get(name)),
        bool(details.get("flagged_input") or details.get("reasons")),
    )


def status_error(
    status: int, body: object, retry_after_seconds: float | None, key: str
) -> MimixError:
    """Return the error for an HTTP status and the body that came with it."""
    details = parse_error_body(body)
    text = redact(f"HTTP {status} {details.message}".strip(), key)
    if status == 402 or details.codes & _NO_CREDIT:
        return BudgetExceeded(
            f"the account at the provider has no credit left: {text}",
            fix=f"add credit there; {RESUME}",
        )
    if details.codes & _CONTENT_FILTER or (status == 403 and _is_moderation(details)):
        return RefusedResponse(f"the provider's content filter refused the request: {text}")
    if status == 413 or (status == 429 and _TOO_LARGE.search(details.message)):
        return RejectedRequest(
            f"the request is too large for the server: {text}. Send fewer or smaller images"
        )
    if status == 429 and _PER_DAY.search(details.message):
        return daily_quota_exceeded(text)
    if status == 429:
        return RateLimited(text, retry_after_seconds=retry_after_seconds)
    if status in (401, 403):
        return BadCredentials(f"the provider rejected the API key: {text}", where="api_key_env")
    if status == 404:
        return BadInput(f"the server does not know the model or the path: {text}", where="model")
    if status in (408, 409) or status >= 500:
        return Unavailable(text, retry_after_seconds=retry_after_seconds)
    return RejectedRequest(text)


def daily_quota_exceeded(text: str) -> BudgetExceeded:
    """Return the error for a quota that is used up until the next day."""
    return BudgetExceeded(
        f"the account's daily quota is used up: {text}",
        fix=f"wait until the provider resets the quota, or raise it there; {RESUME}",
    )


def embedded_error(completion: Mapping[str, Any], key: str) -> MimixError | None:
    """Return the error that a response with status 200 contains, if any."""
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    found = completion.get("error") or (isinstance(choice, Mapping) and choice.get("error"))
    if not found:
        if isinstance(choice, Mapping) and choice.get("finish_reason") == "error":
            return Unavailable("the server ended the response with an error")
        return None
    code = found.get("code") if isinstance(found, Mapping) else None
    status = code if isinstance(code, int) and 400 <= code <= 599 else 500
    return status_error(status, {"error": found}, None, key)


def connection_error(error: BaseException, url: str) -> MimixError:
    """Return the error for a connection that could not be made or broke."""
    certificate = next(
        (one for one in _causes(error) if isinstance(one, ssl.SSLCertVerificationError)), None
    )
    if certificate is not None:
        return BadInput(
            f"the server's certificate is not trusted ({certificate.verify_message})",
            where="base_url",
            fix="set the environment variable SSL_CERT_FILE to a file with the certificate of its "
            "authority",
        )
    cause = error.__cause__ or error
    return Unavailable(f"no connection to the server ({type(cause).__name__}){_proxy_hint(url)}")


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _proxy_hint(url: str) -> str:
    """Say which proxy stands between, for a server whose address bypasses none."""
    parts = urlsplit(url)
    names = (f"{parts.scheme}_proxy", "all_proxy")
    proxy = next((one for name in names for one in (name, name.upper()) if os.environ.get(one)), "")
    bypassed = os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).split(",")
    if not proxy or (parts.hostname or "") in [one.strip() for one in bypassed]:
        return ""
    return f". It goes through the proxy of {proxy}: add {parts.hostname} to NO_PROXY to bypass it"


def _is_moderation(details: ErrorDetails) -> bool:
    return details.is_moderation or bool(_MODERATION.search(details.message))


def _plain_text(text: str) -> str:
    """Reduce a page of HTML to its words; of a long one, to those at its beginning."""
    text = text[:_MAX_PAGE_CHARS]
    if re.search(r"<(?:!doctype|html|head|body|title|h1)\b", text, re.I):
        text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text, flags=re.I | re.S)
    return _shorten(text)


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 3] + "..."
