"""Create batches at the provider, poll them and store their results: one process at a time.

Everything that a process needs to continue a batch is in its manifest, so also a run in mode live
can collect what an earlier run in mode batch left behind.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Set
from decimal import Decimal
from typing import Any, Literal

import openai

from mimix_core.engine.locks import exclusive_lock
from mimix_core.errors import BadInput
from mimix_core.vlm.api_keys import redact
from mimix_core.vlm.backends.openai import OpenAIBackend, parse_completion
from mimix_core.vlm.backends.provider_errors import status_error
from mimix_core.vlm.batch_manifest import BatchManifest, BatchStore
from mimix_core.vlm.prices import compute_cost, estimate_output_tokens
from mimix_core.vlm.protocol import (
    RateLimited,
    RawResponse,
    TokenUsage,
    Unavailable,
    UnusableResponse,
    VlmError,
)
from mimix_core.vlm.request_runner import RequestRunner, backoff_seconds
from mimix_core.vlm.response_cache import create_cached_response
from mimix_core.vlm.serialized_errors import SerializedRequestError

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
METADATA_KEY = "mimix"
FINAL_STATUSES = {"completed", "failed", "expired", "cancelled"}


class BatchProvider:
    """The Batch API, with the manifests of this account's batches.

    ``earlier_attempts`` returns the number and cost of a request's attempts before its batch.
    """

    def __init__(
        self,
        runner: RequestRunner,
        backend: OpenAIBackend,
        on_status: Callable[[str], None],
        earlier_attempts: Callable[[str], tuple[int, Decimal]] = lambda digest: (0, Decimal(0)),
    ) -> None:
        self._runner, self._backend, self._on_status = runner, backend, on_status
        self._earlier_attempts = earlier_attempts
        self._client = backend.client
        self._batches = BatchStore(runner.cache.root)
        self._failing_since: float | None = None

    def open_manifests(self) -> list[BatchManifest]:
        """Return the open batches at this server."""
        base_url = self._runner.settings.base_url
        return [one for one in self._batches.manifests() if one.base_url == base_url]

    async def harvest(self) -> set[str]:
        """Collect finished batches; return the digests of the requests in unfinished ones.

        A batch that was planned and never sent is closed: nothing was paid for it.
        """
        for manifest in self.open_manifests():
            await self.advance(manifest, create=False)
        return {digest for manifest in self.open_manifests() for digest in manifest.digests}

    async def advance(self, manifest: BatchManifest, *, create: bool = True) -> None:
        """Create a batch, poll it, or collect its results.

        ``create=False``: close it if it was never sent. Raises BadInput when the provider rejected
        the batch or does not know it.
        """
        with exclusive_lock(self._batches.path(manifest.key, ".lock")):
            current = self._batches.read(manifest.key)
            if current is None or (current.deferred and self._another_in_progress(current.key)):
                return
            manifest = current
            try:
                if manifest.batch is None:
                    found = await self._create_or_find(manifest, create=create)
                    if found is None:
                        self._batches.close(manifest, {})
                        return
                    manifest = found
                assert manifest.batch is not None
                batch = await self._client.batches.retrieve(manifest.batch)
                self._failing_since = None
                counts = batch.request_counts
                if counts is not None:
                    self._on_status(f"batch: {batch.status}, {counts.completed} of {counts.total}")
                if batch.status in FINAL_STATUSES:
                    await self._collect_results(manifest, batch)
            except openai.NotFoundError:
                raise BadInput(
                    f"the provider does not know the batch {manifest.batch} any more",
                    where=str(self._batches.path(manifest.key, ".json")),
                    fix="If it was deleted there, delete this file: its requests are sent again",
                ) from None
            except openai.OpenAIError as error:
                await self._wait_after_error(self._backend.translate_error(error))

    def _another_in_progress(self, key: str) -> bool:
        return any(one.key != key and one.batch is not None for one in self.open_manifests())

    async def _wait_after_error(self, error: Exception) -> None:
        """Wait after a temporary error and raise any other; the manifest stays valid either way."""
        if not isinstance(error, RateLimited | Unavailable):
            raise error
        self._failing_since = self._failing_since or time.monotonic()
        failing_seconds = time.monotonic() - self._failing_since
        if failing_seconds > self._runner.settings.rate_limit_timeout_seconds:
            raise error
        self._on_status(f"batch service: {error}")
        await asyncio.sleep(
            backoff_seconds(1) if error.retry_after_seconds is None else error.retry_after_seconds
        )

    async def _create_or_find(
        self, manifest: BatchManifest, *, create: bool
    ) -> BatchManifest | None:
        """Return the manifest with its batch's id; None if it was never sent and must not be."""
        batch_id = await self._find_batch(manifest.key) if manifest.asked else None
        if batch_id is None:
            if not create:
                return None
            if manifest.input_file is None:
                source = self._batches.path(manifest.key, ".jsonl")
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
        self._batches.path(manifest.key, ".jsonl").unlink(missing_ok=True)
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
            if any(one.code == "token_limit_exceeded" for one in errors):
                self._defer(manifest)
                return
            self._batches.close(manifest, {})
            message = redact("; ".join(str(one.message) for one in errors), self._backend.key)
            raise BadInput(f"the provider rejected the batch: {message}")
        failures: dict[str, SerializedRequestError] = {}
        # A process that was killed while it collected may have recorded some already.
        recorded = self._runner.ledger.digests()
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            content = await self._client.files.content(file)
            for line in _json_lines(content.content):
                await self._collect_line(line, failures, recorded)
        files = [manifest.input_file, batch.output_file_id, batch.error_file_id]
        self._batches.close(manifest, failures)
        for file in filter(None, files):
            try:
                await self._client.files.delete(file)
            except openai.OpenAIError as error:
                # All results are on disk, and files at the provider cost nothing.
                self._on_status(
                    f"file not deleted at the provider: {self._backend.translate_error(error)}"
                )

    def _defer(self, manifest: BatchManifest) -> None:
        """Handle a batch that exceeds the account's limit of enqueued tokens: it cost nothing.

        It is created again once no other batch is in progress. If it is alone already, it is too
        large, and its requests go into smaller ones.
        """
        if self._another_in_progress(manifest.key):
            self._on_status("the account's limit of enqueued tokens is reached: waiting")
            update = {"batch": None, "asked": False, "deferred": True}
            self._batches.save(manifest.model_copy(update=update))
            return
        error = SerializedRequestError.from_error(
            RateLimited("the batch exceeds the account's limit of enqueued tokens")
        )
        self._batches.close(manifest, dict.fromkeys(manifest.digests, error))

    async def _collect_line(
        self,
        line: dict[str, Any],
        failures: dict[str, SerializedRequestError],
        recorded: Set[str],
    ) -> None:
        digest = str(line.get("custom_id"))
        unusable: UnusableResponse | None = None
        try:
            raw = self._parse_line(line)
        except UnusableResponse as error:
            unusable = error
            raw = RawResponse(error.text, error.usage, self._runner.settings.model)
        except VlmError as error:
            failures[digest] = SerializedRequestError.from_error(error)
            return
        usage = raw.usage or TokenUsage(0, 0, estimate_output_tokens(raw.text))
        usd = compute_cost(usage, self._runner.price)
        if self._runner.cache.read(digest) is None:
            attempts, spent = self._earlier_attempts(digest)
            total = None if usd is None else usd + spent
            response = create_cached_response(raw, usage, usd, attempts + 1, total, unusable)
            await asyncio.to_thread(self._runner.cache.write, digest, response)
        if usage != TokenUsage() and digest not in recorded:
            kind = "answered" if unusable is None else unusable.kind
            self._runner.ledger.record(digest, kind, raw.model, usage, usd)

    def _parse_line(self, line: dict[str, Any]) -> RawResponse:
        """Parse a request's result. Raises VlmError."""
        response = line.get("response")
        if not isinstance(response, dict):
            error = line.get("error")
            code = error.get("code") if isinstance(error, dict) else error
            raise Unavailable(f"the batch ended before the request was processed ({code})")
        body = response.get("body")
        if isinstance(body, str):
            body = next(_json_lines(body.encode()), body)
        status = response.get("status_code")
        if status != 200:
            problem = status_error(
                status if isinstance(status, int) else 500, body, None, self._backend.key
            )
            raise problem if isinstance(problem, VlmError) else Unavailable(str(problem))
        return parse_completion(body, self._backend.key)


def _json_lines(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file; blank and torn lines are left out.

    A request without a line counts as not processed and is sent again.
    """
    for line in content.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
