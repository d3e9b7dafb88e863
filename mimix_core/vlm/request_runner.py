"""Run a request to its end: lock, rate limits, budget, retries, and storage of the response."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from decimal import Decimal
from typing import Any

from mimix_core.errors import BadInput
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.cost_ledger import CostLedger
from mimix_core.vlm.prices import (
    compute_cost,
    estimate_input_tokens,
    estimate_output_tokens,
    model_price,
)
from mimix_core.vlm.protocol import (
    ModelInput,
    RateLimited,
    RawResponse,
    TokenUsage,
    Unavailable,
    UnusableResponse,
    VlmBackend,
    VlmError,
)
from mimix_core.vlm.rate_limiter import MAX_LATENESS_SECONDS, RateLimiter
from mimix_core.vlm.response_cache import RequestLock, ResponseCache, create_cached_response

INITIAL_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 60.0
POLL_SECONDS = 0.1


class AttemptsFailed(Exception):
    """Raised when a request ends without a response, with the number and cost of its attempts."""

    def __init__(self, error: VlmError, attempts: int, spent_usd: Decimal | None) -> None:
        super().__init__(str(error))
        self.error, self.attempts, self.spent_usd = error, attempts, spent_usd


class RunnerClosing(Exception):
    """Raised for a request that was not sent yet when its caller was gone."""


class AttemptTally:
    """The number and cost of a request's attempts so far."""

    def __init__(self, runner: RequestRunner, digest: str) -> None:
        self._runner, self._digest = runner, digest
        self.attempts = 0
        self.spent_usd: Decimal | None = Decimal(0) if runner.price is not None else None

    def record(self, kind: str, model: str, usage: TokenUsage) -> Decimal | None:
        """Count an attempt that reached the model; return its cost."""
        self.attempts += 1
        usd = compute_cost(usage, self._runner.price)
        if usd is not None and self.spent_usd is not None:
            self.spent_usd += usd
        if usage != TokenUsage():
            self._runner.ledger.record(self._digest, kind, model, usage, usd)
        return usd


class RequestRunner:
    """Runs requests with bounded concurrency; all persistent state is on disk.

    ``closing``: start no new requests; those in flight are finished and their responses stored.
    """

    def __init__(self, settings: VlmSettings, cache: ResponseCache, backend: VlmBackend) -> None:
        self.settings, self.cache, self.backend = settings, cache, backend
        self.price = model_price(settings)
        self.ledger = CostLedger(cache, settings.budget_usd)
        self.rate_limiter = RateLimiter(cache, settings)
        self.closing = False
        self.on_status: Callable[[str], None] = lambda text: None
        # Of the account (no credit, a wrong key): it meets every other request, too.
        self._account_error: BadInput | None = None
        self.in_flight: set[asyncio.Task[Any]] = set()
        # A server may count more tokens than the estimate: the largest ratio seen so far.
        self._token_ratio = 1.0
        self._slots = asyncio.Semaphore(settings.max_concurrency)

    async def run(self, request: ModelInput, digest: str) -> bool:
        """Send a request unless its response is in the cache, where it is when this returns.

        Returns whether the response is new. Raises AttemptsFailed, RunnerClosing, BudgetExceeded,
        BadCredentials, BadInput.
        """
        while True:
            with self.cache.lock_request(digest) as lock:
                if lock is not None:
                    if self.cache.read(digest) is not None:
                        return False
                    await self._run_attempts(request, digest, lock)
                    return True
            await self._sleep(POLL_SECONDS)

    async def _run_attempts(
        self,
        request: ModelInput,
        digest: str,
        lock: RequestLock,
    ) -> None:
        tally = AttemptTally(self, digest)
        limited_since: float | None = None
        limited = 0
        while True:
            try:
                await self._send_once(request, digest, lock, tally)
                return
            except RateLimited as error:
                limited_since = limited_since or time.monotonic()
                limited += 1
                wait = error.retry_after_seconds
                wait = backoff_seconds(limited) if wait is None else wait
                self.rate_limiter.pause(wait)
                limited_seconds = time.monotonic() + wait - limited_since
                if limited_seconds > self.settings.rate_limit_timeout_seconds:
                    raise AttemptsFailed(error, tally.attempts, tally.spent_usd) from None
            except Unavailable as error:
                limited_since, limited = None, 0
                if tally.attempts >= self.settings.max_attempts:
                    raise AttemptsFailed(error, tally.attempts, tally.spent_usd) from None
                wait = error.retry_after_seconds or 0.0
                await self._sleep(max(backoff_seconds(tally.attempts), wait))
            except VlmError as error:
                raise AttemptsFailed(error, tally.attempts, tally.spent_usd) from None

    async def _send_once(
        self, request: ModelInput, digest: str, lock: RequestLock, tally: AttemptTally
    ) -> None:
        """Send a request once; its response is on disk when this returns."""
        input_tokens = estimate_input_tokens(request, self.settings)
        async with AsyncExitStack() as tracking:
            async with self._slots:
                tokens = math.ceil(input_tokens * self._token_ratio)
                max_output = request.max_output_tokens + self.settings.reasoning_allowance
                max_usage = TokenUsage(tokens, 0, max_output)
                max_cost = compute_cost(max_usage, self.price)
                while not self.ledger.reserve(lock, max_cost):
                    self.on_status("waiting: the rest of the budget is reserved for other requests")
                    await self._sleep(POLL_SECONDS)
                    self.ledger.record_lost_requests()
                tokens += max_output
                await self._wait_for_rate_limit(tokens)
                if self._account_error is not None:
                    raise self._account_error
                tracking.enter_context(self._track_in_flight())
                unusable: UnusableResponse | None = None
                try:
                    raw = await self.backend.send(request)
                except UnusableResponse as error:
                    unusable = error
                    usage = None if error.usage_is_missing else error.usage
                    raw = RawResponse(error.text, usage, self.settings.model)
                except RateLimited:
                    lock.reserve_cost(Decimal(0))
                    raise
                except VlmError as error:
                    tally.record(error.kind, self.settings.model, error.usage)
                    lock.reserve_cost(Decimal(0))
                    raise
                except BadInput as error:
                    self._account_error = error
                    raise
            # The slot is free: the next request may start while this response is written.
            if raw.usage is None:
                usage = TokenUsage(input_tokens, 0, estimate_output_tokens(raw.text))
            else:
                usage = raw.usage
            await self._store(raw, usage, unusable, digest, tally)
            lock.reserve_cost(Decimal(0))
        if usage != TokenUsage():
            self._token_ratio = max(self._token_ratio, usage.input_tokens / input_tokens)
            self.rate_limiter.adjust_tokens(tokens, usage.input_tokens + usage.output_tokens)
        if raw.pause_seconds:
            self.rate_limiter.pause(raw.pause_seconds)

    async def _store(
        self,
        raw: RawResponse,
        usage: TokenUsage,
        unusable: UnusableResponse | None,
        digest: str,
        tally: AttemptTally,
    ) -> None:
        kind = "answered" if unusable is None else unusable.kind
        usd = tally.record(kind, raw.model, usage)
        response = create_cached_response(
            raw, usage, usd, tally.attempts, tally.spent_usd, unusable
        )
        await asyncio.to_thread(self.cache.write, digest, response)

    async def _wait_for_rate_limit(self, tokens: int) -> None:
        """Wait until a request of this many tokens may start; acquire again after a missed start.

        Raises RateLimited when the provider's pause exceeds the timeout.
        """
        while True:
            now = time.time()
            start, paused_until = self.rate_limiter.acquire(tokens)
            if paused_until - now > self.settings.rate_limit_timeout_seconds:
                raise RateLimited(
                    "the provider accepts no requests for another "
                    f"{(paused_until - now) / 60:.0f} minutes",
                    retry_after_seconds=paused_until - now,
                )
            if start <= time.time():
                return
            await self._sleep(start - now)
            now = time.time()
            if now - start <= MAX_LATENESS_SECONDS and self.rate_limiter.paused_until() <= now:
                return

    async def _sleep(self, seconds: float) -> None:
        if self.closing:
            raise RunnerClosing
        if seconds > 0:
            await asyncio.sleep(seconds)
        if self.closing:
            raise RunnerClosing

    @contextmanager
    def _track_in_flight(self) -> Iterator[None]:
        """Exempt the current task from cancellation while its request is in flight."""
        task = asyncio.current_task()
        assert task is not None
        self.in_flight.add(task)
        try:
            yield
        finally:
            self.in_flight.discard(task)


def backoff_seconds(attempt: int) -> float:
    """Return the delay before the next attempt: exponential, with jitter."""
    longest = min(MAX_BACKOFF_SECONDS, INITIAL_BACKOFF_SECONDS * 2.0 ** min(attempt - 1, 20))
    return longest * random.uniform(0.5, 1)
