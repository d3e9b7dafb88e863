"""Requests and tokens a minute, kept by all processes of one account together.

Requests are paced: the one after a request that takes the share s of a minute's allowance starts
s x 61 seconds later. So no window of 60 seconds, wherever it starts, holds more than the allowance,
and a second is left for the way to the server. A bucket that may be emptied at once would let
nearly two minutes' worth through in one window, and providers count in windows shorter than that.
Of the tokens, the largest request ever seen is left free, for the last one of a window; one that is
larger still waits as long as the difference takes.
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

from mimix_core.engine.artifacts import Frozen
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.response_cache import Answers, locked

WINDOW_SECONDS = 61.0
"""A minute, and a second for what the way to the server may squeeze together."""

LATE_SECONDS = 0.5
"""A start that comes later than this after its turn takes a new turn."""


class State(Frozen):
    """Times in seconds since 1970: before them nothing may start."""

    next_request: float = 0.0
    next_tokens: float = 0.0
    rest_until: float = 0.0
    largest: int = 0


@dataclass(frozen=True)
class Limits:
    """The account's limits, in a file that is locked while it changes."""

    answers: Answers
    settings: VlmSettings

    @property
    def name(self) -> str:
        """One file a model and account, as providers count; no address can be read from it."""
        chosen = self.settings
        account = f"{chosen.backend} {chosen.model} {chosen.base_url} {chosen.api_key_env}"
        return f"limits-{hashlib.sha256(account.encode()).hexdigest()[:12]}.json"

    def take(self, tokens: int) -> tuple[float, float]:
        """Take the next turn for a request of so many tokens.

        Gives the time when it may start, and until when the provider wants no request at all.
        """
        asked = self.settings
        with locked(self.answers.root / self.name) as descriptor:
            now = time.time()
            state = _read(descriptor, now)
            turn = max(now, state.next_request, state.rest_until)
            changed: dict[str, float] = {}
            if asked.tokens_per_minute is not None:
                before, after, largest = _tokens_turn(tokens, state, now, asked.tokens_per_minute)
                turn = max(turn, state.next_tokens + before)
                changed = {"next_tokens": turn + after, "largest": largest}
            if asked.requests_per_minute is not None:
                changed["next_request"] = turn + WINDOW_SECONDS / asked.requests_per_minute
            if changed:
                _write(descriptor, state.model_copy(update=changed))
        return turn, state.rest_until

    def resting(self) -> float:
        """Until when the provider wants no request, in seconds since 1970."""
        with locked(self.answers.root / self.name) as descriptor:
            return _read(descriptor, time.time()).rest_until

    def rest(self, seconds: float) -> None:
        """Nobody starts a request for so long. A shorter rest never ends a longer one."""
        with locked(self.answers.root / self.name) as descriptor:
            now = time.time()
            state = _read(descriptor, now)
            until = max(state.rest_until, now + min(seconds, LONGEST_REST_SECONDS))
            _write(descriptor, state.model_copy(update={"rest_until": until}))

    def correct(self, guessed: int, true: int) -> None:
        """Give back, or take, the tokens by which a request's guess was wrong."""
        limit = self.settings.tokens_per_minute
        if limit is None or guessed == true:
            return
        with locked(self.answers.root / self.name) as descriptor:
            state = _read(descriptor, time.time())
            moved = state.next_tokens + _spacing(true - guessed, state.largest, limit)
            _write(descriptor, state.model_copy(update={"next_tokens": moved}))


LONGEST_REST_SECONDS = 24 * 3600.0


def _tokens_turn(tokens: int, state: State, now: float, limit: int) -> tuple[float, float, int]:
    """Seconds that a request waits beyond the last one's, and the next one after it; the largest.

    What takes more than half of a minute's tokens is alone in its minute.
    """
    idle = now > state.next_tokens + WINDOW_SECONDS
    largest = 0 if idle else state.largest
    if tokens > limit / 2:
        return (0.0 if idle else WINDOW_SECONDS), WINDOW_SECONDS, largest
    larger = max(largest, tokens)
    before = _spacing(larger - largest, larger, limit) if largest else 0.0
    return before, _spacing(tokens, larger, limit), larger


def _spacing(tokens: int, largest: int, limit: int) -> float:
    """Seconds that so many tokens take of a minute's, when the largest request is left free."""
    if tokens <= 0:
        return WINDOW_SECONDS * tokens / max(limit - largest, 1)
    # Two that are a whole window apart never meet in one.
    return min(WINDOW_SECONDS, WINDOW_SECONDS * tokens / max(limit - largest, 1))


def _read(descriptor: int, now: float) -> State:
    """The state; one that cannot be, after the clock was set back, starts anew."""
    try:
        state = State.model_validate_json(os.pread(descriptor, 4096, 0))
    except ValidationError:
        return State()  # a new file
    furthest = max(state.next_request, state.next_tokens, state.rest_until)
    return state if furthest < now + 2 * LONGEST_REST_SECONDS else State()


def _write(descriptor: int, state: State) -> None:
    content = state.model_dump_json().encode()
    os.pwrite(descriptor, content.ljust(256), 0)


def wait_of(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a refused request's headers ask to wait; None when they do not say.

    ``retry-after-ms``, ``retry-after`` (seconds or an HTTP date), then the resets of the limits
    that have nothing left.
    """
    found = {name.lower(): value.strip() for name, value in headers.items()}
    milliseconds = found.get("retry-after-ms", "")
    if re.fullmatch(r"\d+(\.\d+)?", milliseconds):
        return float(milliseconds) / 1000
    after = found.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", after):
        return float(after)
    if after:
        try:
            date = parsedate_to_datetime(after)
        except ValueError:
            return rest_of(headers) or None
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now)
    return rest_of(headers) or None


def rest_of(headers: Mapping[str, str]) -> float:
    """Seconds until the limits that ``x-ratelimit-remaining-*`` says are used up fill again."""
    found = {name.lower(): value.strip() for name, value in headers.items()}
    waits = [0.0]
    for what in ("requests", "tokens"):
        left = found.get(f"x-ratelimit-remaining-{what}", "")
        if left.lstrip("-").isdigit() and int(left) <= 0:
            waits.append(span_of(found.get(f"x-ratelimit-reset-{what}", "")))
    return max(waits)


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def span_of(text: str) -> float:
    """``6m0s``, ``20ms``, ``1.5s`` or plain seconds, in seconds; 0 for anything else."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", text):
        return 0.0
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
