"""Send requests by OpenAI's Batch API: half the price, within a day, and never paid twice.

The state of batches is in files (``batch_manifest.py``), with which any process can continue them.
A manifest is on disk before anything is sent, and its key is in the batch's metadata. If a process
died between creating a batch and storing its id, the manifest has no id: the next process searches
the provider's batches for the key before it creates another one.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal

from mimix_core.engine.locks import exclusive_lock
from mimix_core.vlm.backends.openai import OpenAIBackend, request_body
from mimix_core.vlm.batch_manifest import BatchManifest, BatchStore
from mimix_core.vlm.batch_provider import ENDPOINT, BatchProvider
from mimix_core.vlm.prices import compute_cost, estimate_input_tokens
from mimix_core.vlm.protocol import (
    ModelInput,
    RateLimited,
    TokenUsage,
    Unavailable,
    VlmError,
)
from mimix_core.vlm.request_runner import AttemptsFailed, RequestRunner

MAX_BATCH_BYTES = 190_000_000


@dataclass
class PendingRequest:
    """A request without a response yet. ``offset``, ``length``: its line in the spool, in bytes."""

    numbers: list[int]
    offset: int
    length: int
    max_usd: Decimal
    manifest: str | None = None
    attempts: int = 0
    spent_usd: Decimal = Decimal(0)


@dataclass(frozen=True)
class BatchCallbacks:
    """Functions that receive the results; the numbers are those of the requests.

    ``on_response``: the response is in the cache.
    """

    on_response: Callable[[int], None]
    on_failure: Callable[[int, AttemptsFailed], None]
    on_status: Callable[[str], None]


class BatchClient:
    """Collects requests, then creates their batches and waits for the results."""

    def __init__(
        self, engine: RequestRunner, backend: OpenAIBackend, listener: BatchCallbacks
    ) -> None:
        self._runner, self._backend, self._callbacks = engine, backend, listener
        self._batches = BatchStore(engine.cache.root)
        self._provider = BatchProvider(engine, backend, listener.on_status, self._earlier_attempts)
        self._batches.folder.mkdir(parents=True, exist_ok=True)
        self._resources = ExitStack()
        self._spool = self._resources.enter_context(
            tempfile.TemporaryFile(dir=self._batches.folder)  # noqa: SIM115 - the stack closes it
        )
        self._pending: dict[str, PendingRequest] = {}
        # Smaller than in the settings once the account's limit of enqueued tokens was met.
        self._max_requests = engine.settings.max_batch_requests

    def close(self) -> None:
        """Delete the spool."""
        self._resources.close()

    def add(self, number: int, digest: str, request: ModelInput) -> None:
        """Spool a request until ``run``. Raises BadInput for a video."""
        if digest in self._pending:
            self._pending[digest].numbers.append(number)
            return
        settings = self._runner.settings
        line = json.dumps(
            {
                "custom_id": digest,
                "method": "POST",
                "url": ENDPOINT,
                "body": request_body(request, settings),
            }
        ).encode()
        max_output = request.max_output_tokens + settings.reasoning_allowance
        usage = TokenUsage(estimate_input_tokens(request, settings), 0, max_output)
        max_usd = compute_cost(usage, self._runner.price) or Decimal(0)
        offset = self._spool.tell()
        self._spool.write(line + b"\n")
        self._pending[digest] = PendingRequest([number], offset, len(line) + 1, max_usd)

    async def run(self) -> None:
        """Run batches until every request has a response or failed.

        Raises BudgetExceeded when the rest of the budget does not cover the next request and all
        others are done; BadInput for a batch that the provider rejects as invalid.
        """
        while self._pending:
            self._assign_manifests()
            self._deliver_cached()
            budget_exhausted = self._plan_batches()
            if self._pending and not any(entry.manifest for entry in self._pending.values()):
                if budget_exhausted:
                    raise self._runner.ledger.budget_exceeded()
                continue
            for manifest in self._own_manifests():
                await self._provider.advance(manifest)
            self._deliver_finished()
            if self._pending and any(entry.manifest for entry in self._pending.values()):
                self._callbacks.on_status(f"{len(self._pending)} requests are waiting for batches")
                await asyncio.sleep(self._runner.settings.batch_poll_interval_seconds)

    def _assign_manifests(self) -> None:
        """Assign requests to open batches, of any process, that contain them."""
        for manifest in self._batches.manifests():
            for digest in manifest.digests:
                if digest in self._pending:
                    self._pending[digest].manifest = manifest.key

    def _deliver_cached(self) -> None:
        """Deliver responses that are in the cache already.

        Except for requests in open batches, whose results another process may be collecting.
        """
        for digest in list(self._pending):
            is_unassigned = self._pending[digest].manifest is None
            if is_unassigned and self._runner.cache.read(digest) is not None:
                self._deliver(digest)

    def _deliver(self, digest: str) -> None:
        for number in self._pending.pop(digest).numbers:
            self._callbacks.on_response(number)

    def _earlier_attempts(self, digest: str) -> tuple[int, Decimal]:
        """Return the number and cost of a request's attempts before its current batch."""
        entry = self._pending.get(digest)
        return (0, Decimal(0)) if entry is None else (entry.attempts, entry.spent_usd)

    def _record_failure(self, digest: str, error: VlmError, batch_size: int) -> None:
        """Count a failed attempt; the request fails unless it can be sent again."""
        entry = self._pending[digest]
        entry.manifest = None
        if isinstance(error, RateLimited) and batch_size > 1:
            # Nothing was processed: the batch was too large for the account.
            self._max_requests = max(1, min(self._max_requests, batch_size // 2))
            return
        entry.attempts += 1
        if isinstance(error, Unavailable) and entry.attempts < self._runner.settings.max_attempts:
            return
        for number in entry.numbers:
            self._callbacks.on_failure(
                number, AttemptsFailed(error, entry.attempts, entry.spent_usd)
            )
        del self._pending[digest]

    def _plan_batches(self) -> bool:
        """Assign each request to an open batch or a new one.

        Returns whether the budget does not cover some of them.
        """
        with (
            exclusive_lock(self._batches.folder / "plan.lock"),
            exclusive_lock(self._runner.cache.root / "budget.lock"),
        ):
            self._assign_manifests()
            free = [digest for digest, entry in self._pending.items() if entry.manifest is None]
            # A batch that was collected in the meantime may have stored responses.
            free = [digest for digest in free if self._runner.cache.read(digest) is None]
            affordable = list(self._within_budget(free))
            for digests in self._split_into_batches(affordable):
                self._write_manifest(digests)
        return len(affordable) < len(free)

    def _within_budget(self, digests: Iterable[str]) -> Iterator[str]:
        ledger = self._runner.ledger
        if ledger.budget_usd is None:
            yield from digests
            return
        remaining_usd = (
            ledger.budget_usd - ledger.spent_usd() - self._runner.cache.total_reserved_usd()
        )
        for digest in digests:
            remaining_usd -= self._pending[digest].max_usd
            if remaining_usd < 0:
                return
            yield digest

    def _split_into_batches(self, digests: Iterable[str]) -> Iterator[tuple[str, ...]]:
        """Split requests into groups that fit into one batch each."""
        group: list[str] = []
        size = 0
        for digest in digests:
            length = self._pending[digest].length
            full = len(group) == self._max_requests
            if group and (full or size + length > MAX_BATCH_BYTES):
                yield tuple(group)
                group, size = [], 0
            group.append(digest)
            size += length
        if group:
            yield tuple(group)

    def _write_manifest(self, digests: tuple[str, ...]) -> None:
        base_url = self._runner.settings.base_url
        manifest = BatchManifest(key=uuid.uuid4().hex, digests=digests, base_url=base_url)
        entries = [self._pending[digest] for digest in digests]
        max_usd = sum((entry.max_usd for entry in entries), Decimal(0))
        self._batches.create(manifest, map(self._spooled_line, entries), max_usd)
        for entry in entries:
            entry.manifest = manifest.key

    def _spooled_line(self, entry: PendingRequest) -> bytes:
        """Read a request's line from the spool, and return to the spool's end."""
        self._spool.seek(entry.offset)
        line: bytes = self._spool.read(entry.length)
        self._spool.seek(0, 2)
        return line

    def _own_manifests(self) -> list[BatchManifest]:
        keys = {entry.manifest for entry in self._pending.values()}
        return [manifest for manifest in self._batches.manifests() if manifest.key in keys]

    def _deliver_finished(self) -> None:
        """Deliver the results of closed batches."""
        sizes = Counter(entry.manifest for entry in self._pending.values())
        for digest, entry in list(self._pending.items()):
            key = entry.manifest
            if key is None or self._batches.path(key, ".json").exists():
                continue
            if self._runner.cache.read(digest) is not None:
                self._deliver(digest)
            else:
                self._record_failure(digest, self._batches.failure_of(key, digest), sizes[key])
