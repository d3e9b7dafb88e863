"""Limit requests and tokens per minute, over all processes that use an account.

Requests are paced: the one after a request that takes the share s of a minute's allowance starts
s x 61 seconds later. So no window of 60 seconds exceeds the allowance, and one second is left for
network delays. A token bucket that may be emptied at once would let nearly two minutes' worth into
one window, and providers count in windows shorter than that. Of the tokens, the size of the largest
request so far is left free for the last request of a window; a request that is even larger waits
for the time that the difference takes.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from pydantic import ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.locks import exclusive_lock
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.response_cache import ResponseCache

WINDOW_SECONDS = 61.0
"""A minute, plus a second for variations of the network delay."""

MAX_WAIT_SECONDS = 7 * 86_400.0
"""No header makes a run wait longer, whatever it says."""

MAX_LATENESS_SECONDS = 0.5
"""A request that would start later than this must acquire again."""


class RateLimitState(FrozenModel):
    """Earliest start times in seconds since 1970, and the largest request's tokens."""

    next_request: float = 0.0
    next_tokens: float = 0.0
    rest_until: float = 0.0
    largest: int = 0


@dataclass(frozen=True)
class RateLimiter:
    """The rate limits of an account, in a file that is locked while it changes."""

    cache: ResponseCache
    settings: VlmSettings

    @property
    def file_name(self) -> str:
        """Return the file name for this model and account; it reveals no address."""
        vlm = self.settings
        account = f"{vlm.backend} {vlm.model} {vlm.base_url} {vlm.api_key_env}"
        return f"limits-{hashlib.sha256(account.encode()).hexdigest()[:12]}.json"

    def acquire(self, tokens: int) -> tuple[float, float]:
        """Acquire a start time for a request of this many tokens.

        Returns the time when it may start, and the end of the provider's pause.
        """
        settings = self.settings
        with exclusive_lock(self.cache.root / self.file_name) as file:
            descriptor = file.fileno()
            now = time.time()
            state = _read(descriptor, now)
            start = max(now, state.next_request, state.rest_until)
            changes: dict[str, float] = {}
            if settings.tokens_per_minute is not None:
                before, after, largest = _token_spacing(
                    tokens, state, now, settings.tokens_per_minute
                )
                start = max(start, state.next_tokens + before)
                changes = {"next_tokens": start + after, "largest": largest}
            if settings.requests_per_minute is not None:
                changes["next_request"] = start + WINDOW_SECONDS / settings.requests_per_minute
            if changes:
                _write(descriptor, state.model_copy(update=changes))
        return start, state.rest_until

    def paused_until(self) -> float:
        """Return the end of the provider's pause, in seconds since 1970."""
        with exclusive_lock(self.cache.root / self.file_name) as file:
            descriptor = file.fileno()
            return _read(descriptor, time.time()).rest_until

    def pause(self, seconds: float) -> None:
        """Start no request for this long. A shorter pause does not end a longer one."""
        with exclusive_lock(self.cache.root / self.file_name) as file:
            descriptor = file.fileno()
            now = time.time()
            state = _read(descriptor, now)
            until = max(state.rest_until, now + min(seconds, MAX_PAUSE_SECONDS))
            _write(descriptor, state.model_copy(update={"rest_until": until}))

    def adjust_tokens(self, estimated: int, actual: int) -> None:
        """Correct the estimate of a request by the tokens that the provider counted."""
        limit = self.settings.tokens_per_minute
        if limit is None or estimated == actual:
            return
        with exclusive_lock(self.cache.root / self.file_name) as file:
            descriptor = file.fileno()
            state = _read(descriptor, time.time())
            next_tokens = state.next_tokens + _spacing(actual - estimated, state.largest, limit)
            _write(descriptor, state.model_copy(update={"next_tokens": next_tokens}))


MAX_PAUSE_SECONDS = 24 * 3600.0


def _token_spacing(
    tokens: int, state: RateLimitState, now: float, limit: int
) -> tuple[float, float, int]:
    """Return the delay of a request, the delay of the next one, and the largest request's tokens.

    A request of more than half of a minute's tokens gets a minute of its own.
    """
    idle = now > state.next_tokens + WINDOW_SECONDS
    largest = 0 if idle else state.largest
    if tokens > limit / 2:
        return (0.0 if idle else WINDOW_SECONDS), WINDOW_SECONDS, largest
    larger = max(largest, tokens)
    before = _spacing(larger - largest, larger, limit) if largest else 0.0
    return before, _spacing(tokens, larger, limit), larger


def _spacing(tokens: int, largest: int, limit: int) -> float:
    """Return the seconds that tokens take when the largest request's tokens are left free."""
    if tokens <= 0:
        return WINDOW_SECONDS * tokens / max(limit - largest, 1)
    # Requests that are a window apart are never in the same window.
    return min(WINDOW_SECONDS, WINDOW_SECONDS * tokens / max(limit - largest, 1))


def _read(descriptor: int, now: float) -> RateLimitState:
    """Read the state; a state that is too far ahead (the clock was set back) is reset."""
    try:
        state = RateLimitState.model_validate_json(os.pread(descriptor, 4096, 0))
    except ValidationError:
        return RateLimitState()  # a new file
    furthest = max(state.next_request, state.next_tokens, state.rest_until)
    return state if furthest < now + 2 * MAX_PAUSE_SECONDS else RateLimitState()


def _write(descriptor: int, state: RateLimitState) -> None:
    content = state.model_dump_json().encode()
    os.pwrite(descriptor, content.ljust(256), 0)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds to wait by the headers of a rejected request; None without any.

    Headers in this order: ``retry-after-ms``, ``retry-after`` (seconds or an HTTP date), the resets
    of exhausted limits.
    """
    lowered = {name.lower(): value.strip() for name, value in headers.items()}
    milliseconds = lowered.get("retry-after-ms", "")
    if re.fullmatch(r"\d+(\.\d+)?", milliseconds):
        return min(float(milliseconds) / 1000, MAX_WAIT_SECONDS)
    after = lowered.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", after):
        return min(float(after), MAX_WAIT_SECONDS)
    if after:
        try:
            date = parsedate_to_datetime(after)
        except (ValueError, OverflowError):
            return reset_after(headers) or None
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return min(max(0.0, date.timestamp() - now), MAX_WAIT_SECONDS)
    return reset_after(headers) or None


def reset_after(headers: Mapping[str, str]) -> float:
    """Return the seconds until exhausted limits reset, by the ``x-ratelimit-*`` headers."""
    lowered = {name.lower(): value.strip() for name, value in headers.items()}
    waits = [0.0]
    for limit in ("requests", "tokens"):
        remaining = lowered.get(f"x-ratelimit-remaining-{limit}", "")
        if re.fullmatch(r"-[0-9]+|0+", remaining):
            waits.append(parse_duration(lowered.get(f"x-ratelimit-reset-{limit}", "")))
    return min(max(waits), MAX_WAIT_SECONDS)


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Parse ``6m0s``, ``20ms``, ``1.5s`` or plain seconds to seconds; 0 for anything else."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", text):
        return 0.0
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
