"""One question, whatever it takes: its lock, limits, budget, attempts, its answer on disk."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.cost_ledger import Ledger
from mimix_core.vlm.prices import cost, input_tokens, price_of
from mimix_core.vlm.protocol import (
    Backend,
    InvalidReply,
    Question,
    RateLimited,
    RawReply,
    Unavailable,
    Usage,
    VlmError,
)
from mimix_core.vlm.rate_limiter import LATE_SECONDS, Limits
from mimix_core.vlm.response_cache import Answers, Kept, Turn, keep

Judge = Callable[[str], Awaitable[str | None]]
"""Reads an answer's text: what is wrong with it, None when nothing is."""

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Answered:
    """An answer on disk. ``new``: it was asked for now."""

    kept: Kept
    new: bool


class Failed(Exception):
    """A question that ended without an answer, after so many requests at that cost."""

    def __init__(self, error: VlmError, attempts: int, spent_usd: Decimal | None) -> None:
        super().__init__(str(error))
        self.error, self.attempts, self.spent_usd = error, attempts, spent_usd


class Stopped(Exception):
    """Nobody waits for the answer any more, and it was not asked for yet."""


class Tally:
    """What a question's requests took so far."""

    def __init__(self, engine: Engine, digest: str) -> None:
        self._engine, self._digest = engine, digest
        self.attempts = 0
        self.spent_usd: Decimal | None = Decimal(0) if engine.price is not None else None

    def paid(self, kind: str, model: str, usage: Usage) -> Decimal | None:
        """Count a request that got as far as the model; gives its cost."""
        self.attempts += 1
        usd = cost(usage, self._engine.price)
        if usd is not None and self.spent_usd is not None:
            self.spent_usd += usd
        if usage != Usage():
            self._engine.ledger.add(self._digest, kind, model, usage, usd)
        return usd


class Engine:
    """Answers questions with bounded concurrency. Everything it knows is on disk.

    ``closing``: start no new request; those under way are finished and kept.
    """

    def __init__(self, settings: VlmSettings, answers: Answers, backend: Backend) -> None:
        self.settings, self.answers, self.backend = settings, answers, backend
        self.price = price_of(settings)
        self.ledger = Ledger(answers, settings.budget_usd)
        self.limits = Limits(answers, settings)
        self.closing = False
        self.under_way: set[asyncio.Task[Any]] = set()
        # A server may count more tokens than we do: learnt from what it counted so far.
        self._more = 1.0
        self._slots = asyncio.Semaphore(settings.concurrency)

    async def answer(self, question: Question[Any], digest: str, judge: Judge) -> Answered:
        """The kept answer, or a new one.

        Raises Failed, Stopped, BudgetSpent, BadCredentials, BadInput.
        """
        while True:
            with self.answers.asking(digest) as turn:
                if turn is not None:
                    kept = self.answers.read(digest)
                    if kept is not None and await judge(kept.text) is None:
                        return Answered(kept, new=False)
                    return await self._ask(question, digest, judge, turn)
            await self._sleep(POLL_SECONDS)

    async def _ask(
        self, question: Question[Any], digest: str, judge: Judge, turn: Turn
    ) -> Answered:
        tally = Tally(self, digest)
        limited_since: float | None = None
        limited = 0
        while True:
            try:
                kept = await self._request(question, digest, turn, tally)
                problem = await judge(kept.text)
                if problem is None:
                    return Answered(kept, new=True)
                self.answers.discard(digest)
                self.ledger.add(digest, "unreadable", kept.model, Usage(), None)
                raise InvalidReply(problem)
            except RateLimited as error:
                limited_since = limited_since or time.monotonic()
                limited += 1
                wait = backoff(limited) if error.wait_seconds is None else error.wait_seconds
                self.limits.rest(wait)
                if time.monotonic() + wait - limited_since > self.settings.patience_seconds:
                    raise Failed(error, tally.attempts, tally.spent_usd) from None
            except Unavailable as error:
                limited_since, limited = None, 0
                if tally.attempts >= self.settings.attempts:
                    raise Failed(error, tally.attempts, tally.spent_usd) from None
                await self._sleep(max(backoff(tally.attempts), error.wait_seconds or 0.0))
            except VlmError as error:
                raise Failed(error, tally.attempts, tally.spent_usd) from None

    async def _request(
        self, question: Question[Any], digest: str, turn: Turn, tally: Tally
    ) -> Kept:
        """One request; its answer is on disk when this returns."""
        plain = input_tokens(question, self.settings)
        async with AsyncExitStack() as unbroken:
            async with self._slots:
                guess = math.ceil(plain * self._more)
                most = cost(Usage(guess, 0, question.max_output_tokens), self.price)
                while not self.ledger.start(turn, most):
                    await self._sleep(POLL_SECONDS)
                    self.ledger.sweep()
                guess += question.max_output_tokens
                await self._wait_for_turn(guess)
                unbroken.enter_context(self._not_to_be_broken_off())
                try:
                    raw = await self.backend.ask(question)
                except RateLimited:
                    turn.risk(Decimal(0))
                    raise
                except VlmError as error:
                    tally.paid(error.kind, self.settings.model, error.usage)
                    turn.risk(Decimal(0))
                    raise
            # The next request may start while this answer goes to disk.
            kept = await self._keep(raw, digest, tally)
            turn.risk(Decimal(0))
        self._more = max(self._more, raw.usage.input_tokens / plain)
        self.limits.correct(guess, raw.usage.input_tokens + raw.usage.output_tokens)
        if raw.rest_seconds:
            self.limits.rest(raw.rest_seconds)
        return kept

    async def _keep(self, raw: RawReply, digest: str, tally: Tally) -> Kept:
        usd = tally.paid("answered", raw.model, raw.usage)
        kept = keep(raw, usd, tally.attempts, tally.spent_usd)
        await asyncio.to_thread(self.answers.write, digest, kept)
        return kept

    async def _wait_for_turn(self, tokens: int) -> None:
        """Until a request of so many tokens may start. A turn that was missed is taken anew."""
        while True:
            now = time.time()
            start, rest_until = self.limits.take(tokens)
            if rest_until - now > self.settings.patience_seconds:
                raise RateLimited(
                    f"the provider wants no request for another {(rest_until - now) / 60:.0f} "
                    "minutes",
                    wait_seconds=rest_until - now,
                )
            if start <= time.time():
                return
            await self._sleep(start - now)
            now = time.time()
            if now - start <= LATE_SECONDS and self.limits.resting() <= now:
                return

    async def _sleep(self, seconds: float) -> None:
        if self.closing:
            raise Stopped
        if seconds > 0:
            await asyncio.sleep(seconds)
        if self.closing:
            raise Stopped

    @contextmanager
    def _not_to_be_broken_off(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self.under_way.add(task)
        try:
            yield
        finally:
            self.under_way.discard(task)


def backoff(attempt: int) -> float:
    """Seconds before the next attempt: doubling, with jitter so that not all come back at once."""
    longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(attempt - 1, 20))
    return longest * random.uniform(0.5, 1)
