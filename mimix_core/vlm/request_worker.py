"""Run the process that sends requests to the provider and outlives its caller until they finish.

``client.py`` starts ``python -m mimix_core.vlm`` in a session of its own. A request that was sent
will be billed, so when the calling process is killed the worker still receives the responses of
requests in flight, writes them to disk and exits; it starts no new requests. Until then it holds
the locks of these requests, so the next process waits and finds their responses.

Messages are pickled dataclasses of this module, each preceded by its length, over stdin and stdout.
Responses are validated by the calling process, which has the pydantic models.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import pickle
import struct
import sys
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mimix_core.errors import BadInput, MimixError, StageFailed
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.backends import create_backend
from mimix_core.vlm.protocol import VlmError, VlmRequest
from mimix_core.vlm.request_runner import (
    AttemptsFailed,
    RequestRunner,
    RunnerClosing,
)
from mimix_core.vlm.response_cache import CachedResponse, ResponseCache

if TYPE_CHECKING:
    from mimix_core.vlm.batch_client import BatchClient

LENGTH = struct.Struct(">Q")


@dataclass(frozen=True)
class StartWorker:
    """Start sending with these settings; the first message to the worker."""

    settings: VlmSettings
    cache_folder: Path


@dataclass(frozen=True)
class SendRequest:
    """Send a request. Its ``response_model`` is a placeholder here."""

    number: int
    digest: str
    request: VlmRequest[Any]


@dataclass(frozen=True)
class EndOfRequests:
    """No more requests will follow: batches can be created."""


@dataclass(frozen=True)
class ValidationResult:
    """The problem of a response, in reply to ``ValidateResponse``; None if it is valid."""

    validation_id: int
    problem: str | None


@dataclass(frozen=True)
class ValidateResponse:
    """Validate a response with the model of request ``number``."""

    validation_id: int
    number: int
    text: str


@dataclass(frozen=True)
class RequestSucceeded:
    """A valid response; ``is_new`` unless it was in the cache."""

    number: int
    response: CachedResponse
    is_new: bool


@dataclass(frozen=True)
class RequestFailed:
    """A request that ended without a response."""

    number: int
    error: VlmError
    attempts: int
    spent_usd: Decimal | None


@dataclass(frozen=True)
class FatalError:
    """No more requests can be sent: wrong settings or key, an exhausted budget, or a bug."""

    number: int
    error: MimixError


@dataclass(frozen=True)
class StatusUpdate:
    """Describes what the worker waits for."""

    text: str


def encode_message(message: object) -> bytes:
    """Serialize a message, preceded by its length."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def read_message(stream: IO[bytes]) -> object | None:
    """Read the next message; None at the end of the stream."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = stream.read(length)
    return pickle.loads(data) if len(data) == length else None


def sanitized_error(error: Exception) -> StageFailed:
    """Describe an unexpected error by type and location: its message may contain secrets."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next((one for one in reversed(frames) if "mimix_core" in one.filename), frames[-1])
    location = f"{Path(last.filename).name}:{last.lineno}"
    return StageFailed(f"the request failed with {type(error).__name__} in {location}")


class RequestWorker:
    """Connects the messages of the calling process with a request runner."""

    def __init__(self, out: asyncio.StreamWriter, runner: RequestRunner) -> None:
        self._out, self.runner = out, runner
        self._validation_ids = itertools.count()
        self._validations: dict[int, asyncio.Future[str | None]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._batch_client: BatchClient | None = None

    def send(self, message: object) -> None:
        """Send a message to the calling process."""
        if not self.runner.closing:
            self._out.write(encode_message(message))

    def submit(self, message: SendRequest) -> None:
        """Start a request in mode live."""
        self._create_task(self._run_request(message))

    def submit_batched(self, message: SendRequest) -> None:
        """Add a request to the next batches."""
        if self._batch_client is None:
            from mimix_core.vlm.backends.openai import OpenAIBackend
            from mimix_core.vlm.batch_client import BatchCallbacks, BatchClient

            backend = self.runner.backend
            assert isinstance(backend, OpenAIBackend), "client.py rejects other backends"
            callbacks = BatchCallbacks(
                validate=self.validate,
                on_response=lambda number, response: self.send(
                    RequestSucceeded(number, response, True)
                ),
                on_failure=lambda *failure: self.send(RequestFailed(*failure)),
                on_status=lambda text: self.send(StatusUpdate(text)),
            )
            self._batch_client = BatchClient(self.runner, backend, callbacks)
        try:
            self._batch_client.add(message.number, message.digest, message.request)
        except MimixError as error:
            self.send(FatalError(message.number, error))

    def run_batches(self) -> None:
        """Start the batches of all requests that were added."""
        if self._batch_client is not None:
            self._create_task(self._run_batches(self._batch_client))

    def _create_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run_batches(self, batch_client: BatchClient) -> None:
        try:
            await batch_client.run()
        except MimixError as error:
            self.send(FatalError(-1, error))
        except Exception as error:
            self.send(FatalError(-1, sanitized_error(error)))

    def resolve_validation(self, result: ValidationResult) -> None:
        """Pass on the reply to a ``ValidateResponse`` message."""
        self._validations.pop(result.validation_id).set_result(result.problem)

    async def validate(self, number: int, text: str) -> str | None:
        """Let the calling process validate a response. If it is gone, the next one will do so."""
        if self.runner.closing:
            return None
        validation_id = next(self._validation_ids)
        result: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._validations[validation_id] = result
        self.send(ValidateResponse(validation_id, number, text))
        return await result

    async def _run_request(self, message: SendRequest) -> None:
        number = message.number

        async def validate(text: str) -> str | None:
            return await self.validate(number, text)

        try:
            completed = await self.runner.run(message.request, message.digest, validate)
            self.send(RequestSucceeded(number, completed.response, completed.is_new))
        except AttemptsFailed as failed:
            self.send(RequestFailed(number, failed.error, failed.attempts, failed.spent_usd))
        except RunnerClosing:
            return
        except MimixError as error:
            self.send(FatalError(number, error))
        except Exception as error:
            self.send(FatalError(number, sanitized_error(error)))

    async def close(self) -> None:
        """Finish the requests in flight and cancel all others."""
        self.runner.closing = True
        for result in self._validations.values():
            if not result.done():
                result.set_result(None)
        for task in self.tasks - self.runner.in_flight:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self._batch_client is not None:
            self._batch_client.close()
        await self.runner.backend.close()


async def serve_requests(parent: int, messages: IO[bytes]) -> None:
    """Process the messages from stdin until process ``parent`` exits or closes its end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, messages)
    out = asyncio.StreamWriter(transport, protocol, None, loop)
    start = await _next_message(reader, parent)
    assert isinstance(start, StartWorker)
    try:
        backend = create_backend(start.settings)
        runner = RequestRunner(start.settings, ResponseCache(start.cache_folder), backend)
        runner.ledger.record_lost_requests()
    except BadInput as error:
        out.write(encode_message(FatalError(-1, error)))
        await out.drain()
        return
    # The client libraries' hundred thousand objects are permanent: exempt them from collection.
    gc.collect()
    gc.freeze()
    worker = RequestWorker(out, runner)
    try:
        while (message := await _next_message(reader, parent)) is not None:
            match message:
                case SendRequest() if start.settings.mode == "batch":
                    worker.submit_batched(message)
                case SendRequest():
                    worker.submit(message)
                case EndOfRequests():
                    worker.run_batches()
                case ValidationResult():
                    worker.resolve_validation(message)
    finally:
        await worker.close()


async def _next_message(reader: asyncio.StreamReader, parent: int) -> object | None:
    """Read the next message; None once the calling process has exited or closed its end."""
    head = await _read_exactly(reader, LENGTH.size, parent)
    data = await _read_exactly(reader, LENGTH.unpack(head)[0], parent) if head else None
    return pickle.loads(data) if data else None


async def _read_exactly(reader: asyncio.StreamReader, count: int, parent: int) -> bytes | None:
    reading = asyncio.ensure_future(reader.readexactly(count))
    while True:
        # A forked child of the calling process may keep its end of the pipe open after its death.
        done, _ = await asyncio.wait({reading}, timeout=1.0)
        if done:
            try:
                return reading.result()
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
        if os.getppid() != parent:
            reading.cancel()
            return None


def main() -> None:
    """Run the worker with messages on stdin and stdout."""
    # Redirect stdout to stderr: output of a library must not mix with the messages.
    messages = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    asyncio.run(serve_requests(os.getppid(), messages))
