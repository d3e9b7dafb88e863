"""Read API keys from the environment, and redact them from messages."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.protocol import BadCredentials

_DEFAULT_VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "google-generativeai": "GEMINI_API_KEY",
}
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
NO_KEY = "no-key"
"""Sent to servers that need no key, because the official clients require one."""


def read_api_key(settings: VlmSettings, environment: Mapping[str, str] | None = None) -> str:
    """Read the API key from the environment.

    Raises BadCredentials when its variable is not set.
    """
    environment = os.environ if environment is None else environment
    name = settings.api_key_env
    if name is None:
        if settings.base_url is not None:
            return NO_KEY
        name = _DEFAULT_VARIABLES[settings.backend]
    key = environment.get(name, "").strip()
    if not key:
        raise BadCredentials(
            f"the environment variable {name} with the key of the {settings.backend} backend is "
            "not set",
            where="api_key_env",
            fix=f"export {name}=..., or name another variable",
        )
    return key


def secret_variables(settings: VlmSettings) -> frozenset[str]:
    """Return the names of the environment variables with secrets that requests need.

    Proxies are among them: their addresses may hold a password.
    """
    names = {settings.api_key_env, *settings.headers_env.values(), *_PROXIES}
    if settings.api_key_env is None and settings.base_url is None:
        names.add(_DEFAULT_VARIABLES[settings.backend])
    return frozenset(name for name in names if name)


def read_headers(
    settings: VlmSettings, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Read the values of further headers. Raises BadCredentials when a variable is not set."""
    environment = os.environ if environment is None else environment
    missing = sorted(name for name in settings.headers_env.values() if not environment.get(name))
    if missing:
        raise BadCredentials(
            f"environment variables with values of headers are not set: {', '.join(missing)}",
            where="headers_env",
        )
    return {header: environment[name] for header, name in settings.headers_env.items()}


_LOOKS_LIKE_A_KEY = re.compile(
    r"(?i)(bearer\s+|[?&]key=|api[_-]?key[\"'=: ]+)[^\s\"'&]+|\bsk-[\w*.-]{4,}|\bAIza[\w*-]{8,}"
)
_ADDRESS = re.compile(r"https?://\S+")
MAX_MESSAGE_LENGTH = 300


def excerpt(text: str) -> str:
    """Return the start of a model's text on one line, without control characters, for a person."""
    return redact("".join(one if one.isprintable() else " " for one in text), NO_KEY)


def redact(text: str, key: str) -> str:
    """Return a provider's message on one line without the key, similar strings and addresses."""
    text = " ".join(text.split())
    if key and key != NO_KEY:
        text = text.replace(key, "***")
    text = _ADDRESS.sub("(address)", text)
    return _LOOKS_LIKE_A_KEY.sub("***", text)[:MAX_MESSAGE_LENGTH]
