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
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import openai

from mimix_core.errors import BadInput
from mimix_core.vlm.api_keys import redact
from mimix_core.vlm.backends.openai import (
    OpenAIBackend,
    parse_completion,
    request_body,
)
from mimix_core.vlm.backends.provider_errors import status_error
from mimix_core.vlm.batch_manifest import BatchManifest, BatchStore
from mimix_core.vlm.prices import compute_cost, estimate_input_tokens, estimate_output_tokens
from mimix_core.vlm.protocol import (
    ModelInput,
    RateLimited,
    RawResponse,
    TokenUsage,
    Unavailable,
    UnusableResponse,
    VlmError,
)
from mimix_core.vlm.request_runner import AttemptsFailed, RequestRunner, backoff_seconds
from mimix_core.vlm.response_cache import create_cached_response, file_lock
from mimix_core.vlm.serialized_errors import SerializedRequestError

MAX_BATCH_BYTES = 190_000_000
ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
METADATA_KEY = "mimix"
FINAL_STATUSES = {"completed", "failed", "expired", "cancelled"}


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
        self._client = backend.client
        self._batches = BatchStore(engine.cache.root)
        self._batches.folder.mkdir(parents=True, exist_ok=True)
        self._resources = ExitStack()
        self._spool = self._resources.enter_context(
            tempfile.TemporaryFile(dir=self._batches.folder)  # noqa: SIM115 - the stack closes it
        )
        self._pending: dict[str, PendingRequest] = {}
        self._failing_since: float | None = None

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
                await self._advance_batch(manifest)
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

    def _record_failure(self, digest: str, error: VlmError) -> None:
        """Count a failed attempt; the request fails unless it can be sent again."""
        entry = self._pending[digest]
        entry.manifest = None
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
            file_lock(self._batches.folder / "plan.lock"),
            file_lock(self._runner.cache.root / "budget.lock"),
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
            full = len(group) == self._runner.settings.max_batch_requests
            if group and (full or size + length > MAX_BATCH_BYTES):
                yield tuple(group)
                group, size = [], 0
            group.append(digest)
            size += length
        if group:
            yield tuple(group)

    def _write_manifest(self, digests: tuple[str, ...]) -> None:
        manifest = BatchManifest(key=uuid.uuid4().hex, digests=digests)
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

    async def _advance_batch(self, manifest: BatchManifest) -> None:
        """Create a batch, poll it, or collect its results; one process at a time."""
        with file_lock(self._batches.path(manifest.key, ".lock")):
            current = self._batches.read(manifest.key)
            if current is None:
                return
            manifest = current
            try:
                if manifest.batch is None:
                    manifest = await self._create_batch(manifest)
                assert manifest.batch is not None
                batch = await self._client.batches.retrieve(manifest.batch)
                self._failing_since = None
                counts = batch.request_counts
                if counts is not None:
                    self._callbacks.on_status(
                        f"batch: {batch.status}, {counts.completed} of {counts.total}"
                    )
                if batch.status in FINAL_STATUSES:
                    await self._collect_results(manifest, batch)
            except openai.OpenAIError as error:
                await self._wait_after_error(self._backend.translate_error(error))

    async def _wait_after_error(self, error: Exception) -> None:
        """Wait after a temporary error and raise any other; the manifest stays valid either way."""
        if not isinstance(error, RateLimited | Unavailable):
            raise error
        self._failing_since = self._failing_since or time.monotonic()
        if (
            time.monotonic() - self._failing_since
            > self._runner.settings.rate_limit_timeout_seconds
        ):
            raise error
        self._callbacks.on_status(f"batch service: {error}")
        await asyncio.sleep(
            backoff_seconds(1) if error.retry_after_seconds is None else error.retry_after_seconds
        )

    async def _create_batch(self, manifest: BatchManifest) -> BatchManifest:
        source = self._batches.path(manifest.key, ".jsonl")
        batch_id = await self._find_batch(manifest.key) if manifest.asked else None
        if batch_id is None:
            if manifest.input_file is None:
                file = await self._client.files.create(file=source, purpose="batch")
                manifest = manifest.model_copy(update={"input_file": file.id})
            manifest = manifest.model_copy(update={"asked": True})
            self._batches.save(manifest)
            assert manifest.input_file is not None
            batch = await self._client.batches.create(
                input_file_id=manifest.input_file,
                endpoint=ENDPOINT,
                completion_window="24h",
                metadata={METADATA_KEY: manifest.key},
            )
            batch_id = batch.id
        manifest = manifest.model_copy(update={"batch": batch_id})
        self._batches.save(manifest)
        source.unlink(missing_ok=True)
        return manifest

    async def _find_batch(self, key: str) -> str | None:
        """Return the id of the batch with this key, if the provider has one."""
        async for batch in self._client.batches.list(limit=100):
            if (batch.metadata or {}).get(METADATA_KEY) == key:
                return batch.id
        return None

    async def _collect_results(self, manifest: BatchManifest, batch: Any) -> None:
        """Store the results of a finished batch; safe to repeat after a crash."""
        if batch.status == "failed":
            errors = (batch.errors and batch.errors.data) or []
            if not any(one.code == "token_limit_exceeded" for one in errors):
                self._batches.close(manifest, {})
                message = redact("; ".join(str(one.message) for one in errors), self._backend.key)
                raise BadInput(f"the provider rejected the batch: {message}")
        failures: dict[str, SerializedRequestError] = {}
        for file in (batch.output_file_id, batch.error_file_id):
            if file is not None:
                content = await self._client.files.content(file)
                for line in content.content.splitlines():
                    await self._collect_line(json.loads(line), failures)
        files = [manifest.input_file, batch.output_file_id, batch.error_file_id]
        self._batches.close(manifest, failures)
        for file in filter(None, files):
            try:
                await self._client.files.delete(file)
            except openai.OpenAIError as error:
                # All results are on disk, and files at the provider cost nothing.
                self._callbacks.on_status(
                    f"file not deleted at the provider: {self._backend.translate_error(error)}"
                )

    async def _collect_line(self, line: Any, failures: dict[str, SerializedRequestError]) -> None:
        digest = str(line["custom_id"])
        response = line.get("response")
        unusable: UnusableResponse | None = None
        try:
            if response is None or response["status_code"] != 200:
                raise self._line_error(line)
            raw = parse_completion(response["body"], self._backend.key)
        except UnusableResponse as error:
            unusable = error
            raw = RawResponse(error.text, error.usage, self._runner.settings.model)
        except VlmError as error:
            failures[digest] = SerializedRequestError.from_error(error)
            return
        if self._runner.cache.read(digest) is not None:
            return
        usage = raw.usage or TokenUsage(0, 0, estimate_output_tokens(raw.text))
        usd = compute_cost(usage, self._runner.price)
        if usage != TokenUsage():
            kind = "answered" if unusable is None else unusable.kind
            self._runner.ledger.record(digest, kind, raw.model, usage, usd)
        entry = self._pending.get(digest)
        attempts = entry.attempts + 1 if entry else 1
        spent = None if usd is None else usd + (entry.spent_usd if entry else 0)
        response = create_cached_response(raw, usage, usd, attempts, spent, unusable)
        await asyncio.to_thread(self._runner.cache.write, digest, response)

    def _line_error(self, line: Any) -> Exception:
        response = line.get("response")
        if response is not None:
            return status_error(
                int(response["status_code"]), response.get("body"), None, self._backend.key
            )
        code = str((line.get("error") or {}).get("code"))
        return Unavailable(f"the batch ended before the request was processed ({code})")

    def _deliver_finished(self) -> None:
        """Deliver the results of closed batches."""
        for digest, entry in list(self._pending.items()):
            key = entry.manifest
            if key is None or self._batches.path(key, ".json").exists():
                continue
            if self._runner.cache.read(digest) is not None:
                self._deliver(digest)
            else:
                self._record_failure(digest, self._batches.failure_of(key, digest))
