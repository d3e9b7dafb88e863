"""OpenAI's Batch API: half the price, within a day, and never paid twice.

What is with the provider is known from files (``batch_files``), so that any process can go on with
it. A manifest is on disk before anything is sent, and its key is in the batch's metadata. A process
that died between asking for a batch and noting its id left a manifest without one: the next process
looks for the key among the provider's batches before it asks again.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import openai

from mimix_core.errors import BadInput
from mimix_core.vlm.api_keys import scrub
from mimix_core.vlm.backends.openai import OpenAIBackend, body, error_of, read_completion
from mimix_core.vlm.batch_manifest import BatchFiles, Manifest, Miss
from mimix_core.vlm.prices import cost, input_tokens
from mimix_core.vlm.protocol import (
    InvalidReply,
    Question,
    RateLimited,
    Unavailable,
    Usage,
    VlmError,
)
from mimix_core.vlm.request_runner import Engine, backoff
from mimix_core.vlm.response_cache import Kept, keep, locked

LARGEST_BYTES = 190_000_000
ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
KEY = "mimix"
FINAL = {"completed", "failed", "expired", "cancelled"}


@dataclass
class Entry:
    """A question that waits. ``offset`` and ``length``: its line in the spool, in bytes."""

    numbers: list[int]
    offset: int
    length: int
    most_usd: Decimal
    manifest: str | None = None
    attempts: int = 0
    spent_usd: Decimal = Decimal(0)


@dataclass(frozen=True)
class Listener:
    """Who hears what the batches bring; the numbers are those of the questions."""

    judge: Callable[[int, str], Awaitable[str | None]]
    found: Callable[[int, Kept], None]
    lost: Callable[[int, VlmError, int, Decimal], None]
    say: Callable[[str], None]


class BatchDesk:
    """Takes questions, then sees their batches through."""

    def __init__(self, engine: Engine, backend: OpenAIBackend, listener: Listener) -> None:
        self._engine, self._backend, self._to = engine, backend, listener
        self._client = backend.client
        self._files = BatchFiles(engine.answers.root)
        self._files.folder.mkdir(parents=True, exist_ok=True)
        self._open = ExitStack()
        self._spool = self._open.enter_context(
            tempfile.TemporaryFile(dir=self._files.folder)  # noqa: SIM115 - the stack closes it
        )
        self._waiting: dict[str, Entry] = {}
        self._failing_since: float | None = None

    def close(self) -> None:
        self._open.close()

    def take(self, number: int, digest: str, question: Question[Any]) -> None:
        """Put a question aside until ``run``. Raises BadInput for a video."""
        if digest in self._waiting:
            self._waiting[digest].numbers.append(number)
            return
        settings = self._engine.settings
        line = json.dumps(
            {
                "custom_id": digest,
                "method": "POST",
                "url": ENDPOINT,
                "body": body(question, settings),
            }
        ).encode()
        usage = Usage(input_tokens(question, settings), 0, question.max_output_tokens)
        most = cost(usage, self._engine.price) or Decimal(0)
        offset = self._spool.tell()
        self._spool.write(line + b"\n")
        self._waiting[digest] = Entry([number], offset, len(line) + 1, most)

    async def run(self) -> None:
        """Until every question is answered or lost.

        Raises BudgetSpent when what is left of the budget is too little for the next question, and
        all others are done; BadInput for a batch that the provider finds wrong.
        """
        while self._waiting:
            self._adopt()
            await self._read_known()
            out_of_money = self._plan()
            if self._waiting and not any(entry.manifest for entry in self._waiting.values()):
                if out_of_money:
                    raise self._engine.ledger.spent()
                continue
            for manifest in self._ours():
                await self._advance(manifest)
            await self._settle()
            if self._waiting and any(entry.manifest for entry in self._waiting.values()):
                self._to.say(f"{len(self._waiting)} questions wait for batches")
                await asyncio.sleep(self._engine.settings.batch_poll_seconds)

    def _adopt(self) -> None:
        """Wait for the batches, of whatever process, that hold questions of ours."""
        for manifest in self._files.manifests():
            for digest in manifest.digests:
                if digest in self._waiting:
                    self._waiting[digest].manifest = manifest.key

    async def _read_known(self) -> None:
        """Give out what other processes, or earlier ones, got answered.

        Not of batches that are under way: who takes one in may be in the middle of it.
        """
        for digest in list(self._waiting):
            if self._waiting[digest].manifest is None:
                kept = self._engine.answers.read(digest)
                if kept is not None:
                    await self._give(digest, kept)

    async def _give(self, digest: str, kept: Kept) -> None:
        entry = self._waiting[digest]
        problem = await self._to.judge(entry.numbers[0], kept.text)
        if problem is None:
            for number in entry.numbers:
                self._to.found(number, kept)
            del self._waiting[digest]
            return
        self._engine.answers.discard(digest)
        entry.spent_usd += kept.cost_usd or 0
        self._miss(digest, InvalidReply(problem))

    def _miss(self, digest: str, error: VlmError) -> None:
        """A request for the question was no success: once more, or that was all."""
        entry = self._waiting[digest]
        entry.manifest = None
        entry.attempts += 1
        if isinstance(error, Unavailable) and entry.attempts < self._engine.settings.attempts:
            return
        for number in entry.numbers:
            self._to.lost(number, error, entry.attempts, entry.spent_usd)
        del self._waiting[digest]

    # Manifests

    def _plan(self) -> bool:
        """Give each question a manifest: one that has it already, or a new one.

        True: the budget has no room for some of them.
        """
        with (
            locked(self._files.folder / "plan.lock"),
            locked(self._engine.answers.root / "budget.lock"),
        ):
            self._adopt()
            free = [digest for digest, entry in self._waiting.items() if entry.manifest is None]
            # A batch harvested since these were looked for may have left answers.
            free = [digest for digest in free if self._engine.answers.read(digest) is None]
            paid_for = list(self._within_budget(free))
            for digests in self._split(paid_for):
                self._write(digests)
        return len(paid_for) < len(free)

    def _within_budget(self, digests: Iterable[str]) -> Iterator[str]:
        ledger = self._engine.ledger
        if ledger.budget_usd is None:
            yield from digests
            return
        room = ledger.budget_usd - ledger.spent_usd() - self._engine.answers.at_risk_usd()
        for digest in digests:
            room -= self._waiting[digest].most_usd
            if room < 0:
                return
            yield digest

    def _split(self, digests: Iterable[str]) -> Iterator[tuple[str, ...]]:
        """Groups that are each small enough for one batch."""
        group: list[str] = []
        size = 0
        for digest in digests:
            length = self._waiting[digest].length
            full = len(group) == self._engine.settings.batch_requests
            if group and (full or size + length > LARGEST_BYTES):
                yield tuple(group)
                group, size = [], 0
            group.append(digest)
            size += length
        if group:
            yield tuple(group)

    def _write(self, digests: tuple[str, ...]) -> None:
        manifest = Manifest(key=uuid.uuid4().hex, digests=digests)
        entries = [self._waiting[digest] for digest in digests]
        most = sum((entry.most_usd for entry in entries), Decimal(0))
        self._files.begin(manifest, map(self._line, entries), most)
        for entry in entries:
            entry.manifest = manifest.key

    def _line(self, entry: Entry) -> bytes:
        """A question's line in the spool, which is left at its end."""
        self._spool.seek(entry.offset)
        line: bytes = self._spool.read(entry.length)
        self._spool.seek(0, 2)
        return line

    def _ours(self) -> list[Manifest]:
        keys = {entry.manifest for entry in self._waiting.values()}
        return [manifest for manifest in self._files.manifests() if manifest.key in keys]

    # The provider

    async def _advance(self, manifest: Manifest) -> None:
        """Bring a batch one step on: created, looked at, or harvested. One process at a time."""
        with locked(self._files.path(manifest.key, ".lock")):
            now = self._files.read(manifest.key)
            if now is None:
                return
            manifest = now
            try:
                if manifest.batch is None:
                    manifest = await self._create(manifest)
                assert manifest.batch is not None
                batch = await self._client.batches.retrieve(manifest.batch)
                self._failing_since = None
                counts = batch.request_counts
                if counts is not None:
                    self._to.say(f"batch: {batch.status}, {counts.completed} of {counts.total}")
                if batch.status in FINAL:
                    await self._harvest(manifest, batch)
            except openai.OpenAIError as error:
                await self._bear(self._backend.translate(error))

    async def _bear(self, error: Exception) -> None:
        """Wait where waiting helps: nothing is lost, the manifest says how to go on."""
        if not isinstance(error, RateLimited | Unavailable):
            raise error
        self._failing_since = self._failing_since or time.monotonic()
        if time.monotonic() - self._failing_since > self._engine.settings.patience_seconds:
            raise error
        self._to.say(f"the batch service: {error}")
        await asyncio.sleep(backoff(1) if error.wait_seconds is None else error.wait_seconds)

    async def _create(self, manifest: Manifest) -> Manifest:
        source = self._files.path(manifest.key, ".jsonl")
        found = await self._find(manifest.key) if manifest.asked else None
        if found is None:
            if manifest.input_file is None:
                file = await self._client.files.create(file=source, purpose="batch")
                manifest = manifest.model_copy(update={"input_file": file.id})
            manifest = manifest.model_copy(update={"asked": True})
            self._files.save(manifest)
            assert manifest.input_file is not None
            batch = await self._client.batches.create(
                input_file_id=manifest.input_file,
                endpoint=ENDPOINT,
                completion_window="24h",
                metadata={KEY: manifest.key},
            )
            found = batch.id
        manifest = manifest.model_copy(update={"batch": found})
        self._files.save(manifest)
        source.unlink(missing_ok=True)
        return manifest

    async def _find(self, key: str) -> str | None:
        """The batch with this key, if the provider has one."""
        async for batch in self._client.batches.list(limit=100):
            if (batch.metadata or {}).get(KEY) == key:
                return batch.id
        return None

    async def _harvest(self, manifest: Manifest, batch: Any) -> None:
        """Take in all that a finished batch gave; run again after a crash, it goes on."""
        if batch.status == "failed":
            errors = (batch.errors and batch.errors.data) or []
            if not any(one.code == "token_limit_exceeded" for one in errors):
                self._files.close(manifest, {})
                said = scrub("; ".join(str(one.message) for one in errors), self._backend.key)
                raise BadInput(f"the provider finds the batch wrong: {said}")
        misses: dict[str, Miss] = {}
        for file in (batch.output_file_id, batch.error_file_id):
            if file is not None:
                content = await self._client.files.content(file)
                for line in content.content.splitlines():
                    await self._take_in(json.loads(line), misses)
        files = [manifest.input_file, batch.output_file_id, batch.error_file_id]
        self._files.close(manifest, misses)
        for file in filter(None, files):
            try:
                await self._client.files.delete(file)
            except openai.OpenAIError as error:
                # All is on disk; what stays with the provider costs nothing.
                self._to.say(f"a file stayed with the provider: {self._backend.translate(error)}")

    async def _take_in(self, line: Any, misses: dict[str, Miss]) -> None:
        digest = str(line["custom_id"])
        response = line.get("response")
        try:
            if response is None or response["status_code"] != 200:
                raise self._line_error(line)
            raw = read_completion(response["body"])
        except VlmError as error:
            used = error.usage
            if used != Usage():
                self._pay(digest, error.kind, self._engine.settings.model, used)
            misses[digest] = Miss.of(error)
            return
        if self._engine.answers.read(digest) is not None:
            return
        usd = self._pay(digest, "answered", raw.model, raw.usage)
        entry = self._waiting.get(digest)
        attempts = entry.attempts + 1 if entry else 1
        spent = None if usd is None else usd + (entry.spent_usd if entry else 0)
        kept = keep(raw, usd, attempts, spent)
        await asyncio.to_thread(self._engine.answers.write, digest, kept)

    def _line_error(self, line: Any) -> Exception:
        response = line.get("response")
        if response is not None:
            said = (response.get("body") or {}).get("error") or {}
            details = {name: str(said.get(name) or "") for name in ("code", "type", "message")}
            return error_of(int(response["status_code"]), details, None, self._backend.key)
        code = str((line.get("error") or {}).get("code"))
        return Unavailable(f"the batch ended before the question was answered ({code})")

    def _pay(self, digest: str, kind: str, model: str, usage: Usage) -> Decimal | None:
        usd = cost(usage, self._engine.price)
        self._engine.ledger.add(digest, kind, model, usage, usd)
        return usd

    async def _settle(self) -> None:
        """Give out what the batches that are closed brought to our questions."""
        for digest, entry in list(self._waiting.items()):
            key = entry.manifest
            if key is None or self._files.path(key, ".json").exists():
                continue
            kept = self._engine.answers.read(digest)
            if kept is not None:
                await self._give(digest, kept)
                continue
            miss = self._files.missed(key, digest)
            entry.spent_usd += cost(miss.usage, self._engine.price) or 0
            self._miss(digest, miss)
