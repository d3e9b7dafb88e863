"""Run the process that sends requests to the provider and outlives its caller until they finish.

``client.py`` starts ``python -m mimix_core.vlm`` in a session of its own. A request that was sent
will be billed, so when the calling process is killed the worker still receives the responses of
requests in flight, writes them to disk and exits; it starts no new requests. Until then it holds
the locks of these requests, so the next process waits and finds their responses.

Messages go over stdin and stdout (``request_messages.py``). Responses are validated by the calling
process, which has the pydantic models.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mimix_core.errors import BadInput, MimixError, StageFailed
from mimix_core.vlm.backends import create_backend
from mimix_core.vlm.protocol import VlmError
from mimix_core.vlm.request_messages import (
    MAX_LINE_BYTES,
    EndOfRequests,
    FromWorker,
    RequestFailed,
    ResponseCached,
    SendRequest,
    StartWorker,
    StatusUpdate,
    ToWorker,
    WorkerFailed,
    encode_message,
    parse_message_to_worker,
)
from mimix_core.vlm.request_runner import AttemptsFailed, RequestRunner, RunnerClosing
from mimix_core.vlm.response_cache import ResponseCache
from mimix_core.vlm.serialized_errors import SerializedFatalError, SerializedRequestError

if TYPE_CHECKING:
    from mimix_core.vlm.batch_client import BatchClient
    from mimix_core.vlm.batch_provider import BatchProvider

POLL_SECONDS = 0.1


class RequestWorker:
    """Runs the requests of a calling process and reports their ends to it."""

    def __init__(self, out: asyncio.StreamWriter, runner: RequestRunner) -> None:
        self._out, self._runner = out, runner
        self._tasks: set[asyncio.Task[None]] = set()
        self._batch_client: BatchClient | None = None
        # Requests in batches that earlier runs left and that are still in progress.
        self._batched: set[str] = set()
        runner.on_status = lambda text: self._send(StatusUpdate(text=text))

    def handle(self, message: ToWorker) -> None:
        """Act on a message of the calling process."""
        match message:
            case SendRequest() if self._runner.settings.mode == "batch":
                self._add_to_batch(message)
            case SendRequest():
                self._create_task(self._run_request(message))
            case EndOfRequests() if self._batch_client is not None:
                self._create_task(self._run_batches(self._batch_client))

    async def harvest_batches(self) -> None:
        """Collect what earlier runs in mode batch left, so that it is not paid for again.

        Batches that are still in progress are polled while this worker runs; their requests wait.
        Raises BadInput for a batch that the provider rejected or does not know.
        """
        from mimix_core.vlm.backends.openai import OpenAIBackend
        from mimix_core.vlm.batch_provider import BatchProvider

        backend = self._runner.backend
        if isinstance(backend, OpenAIBackend):
            provider = BatchProvider(self._runner, backend, self._runner.on_status)
            if provider.open_manifests():
                self._batched = await provider.harvest()
            if self._batched:
                self._create_task(self._poll_batches(provider))

    async def _poll_batches(self, provider: BatchProvider) -> None:
        try:
            while self._batched:
                self._runner.on_status(
                    f"{len(self._batched)} requests are in batches that an earlier run started: "
                    "they wait for its results"
                )
                await asyncio.sleep(self._runner.settings.batch_poll_interval_seconds)
                self._batched = await provider.harvest()
        except Exception as error:
            self._send(_worker_failed(None, error))

    async def close(self) -> None:
        """Finish the requests in flight and cancel all others."""
        self._runner.closing = True
        for task in self._tasks - self._runner.in_flight:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._batch_client is not None:
            self._batch_client.close()
        await self._runner.backend.close()

    def _send(self, message: FromWorker) -> None:
        if not self._runner.closing:
            self._out.write(encode_message(message))

    def _create_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_request(self, message: SendRequest) -> None:
        number = message.number
        try:
            while message.digest in self._batched:
                await asyncio.sleep(POLL_SECONDS)
            is_new = await self._runner.run(message.model_input, message.digest)
            self._send(ResponseCached(number=number, is_new=is_new))
        except AttemptsFailed as failed:
            self._send(_request_failed(number, failed))
        except RunnerClosing:
            return
        except Exception as error:
            self._send(_worker_failed(number, error))

    def _add_to_batch(self, message: SendRequest) -> None:
        if self._batch_client is None:
            from mimix_core.vlm.backends.openai import OpenAIBackend
            from mimix_core.vlm.batch_client import BatchCallbacks, BatchClient

            backend = self._runner.backend
            assert isinstance(backend, OpenAIBackend), "client.py rejects other backends"
            callbacks = BatchCallbacks(
                on_response=lambda number: self._send(ResponseCached(number=number, is_new=True)),
                on_failure=lambda number, failed: self._send(_request_failed(number, failed)),
                on_status=lambda text: self._send(StatusUpdate(text=text)),
            )
            self._batch_client = BatchClient(self._runner, backend, callbacks)
        try:
            self._batch_client.add(message.number, message.digest, message.model_input)
        except MimixError as error:
            self._send(_worker_failed(message.number, error))

    async def _run_batches(self, batch_client: BatchClient) -> None:
        try:
            await batch_client.run()
        except Exception as error:
            self._send(_worker_failed(None, error))


def _request_failed(number: int, failed: AttemptsFailed) -> RequestFailed:
    error = SerializedRequestError.from_error(failed.error)
    return RequestFailed(
        number=number, error=error, attempts=failed.attempts, spent_usd=failed.spent_usd
    )


def _worker_failed(number: int | None, error: Exception) -> WorkerFailed:
    match error:
        case VlmError():
            return WorkerFailed(number=number, error=SerializedRequestError.from_error(error))
        case MimixError():
            return WorkerFailed(number=number, error=SerializedFatalError.from_error(error))
        case _:
            described = SerializedFatalError.from_error(sanitized_error(error))
            return WorkerFailed(number=number, error=described)


def sanitized_error(error: Exception) -> StageFailed:
    """Describe an unexpected error by type and location: its message may contain secrets."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next((one for one in reversed(frames) if "mimix_core" in one.filename), frames[-1])
    location = f"{Path(last.filename).name}:{last.lineno}"
    return StageFailed(f"the request failed with {type(error).__name__} in {location}")


async def serve_requests(parent: int, messages: IO[bytes]) -> None:
    """Process the messages from stdin until process ``parent`` exits or closes its end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, messages)
    out = asyncio.StreamWriter(transport, protocol, None, loop)
    start = await _next_message(reader, parent)
    if start is None:
        return
    assert isinstance(start, StartWorker)
    try:
        backend = create_backend(start.settings)
        runner = RequestRunner(start.settings, ResponseCache(start.cache_folder), backend)
        worker = RequestWorker(out, runner)
        runner.ledger.record_lost_requests()
        if start.settings.mode == "live" and start.settings.backend == "openai":
            await worker.harvest_batches()
    except (BadInput, VlmError) as error:
        out.write(encode_message(_worker_failed(None, error)))
        await out.drain()
        return
    # The client libraries' hundred thousand objects are permanent: exempt them from collection.
    gc.collect()
    gc.freeze()
    try:
        while (message := await _next_message(reader, parent)) is not None:
            worker.handle(message)
    finally:
        await worker.close()


async def _next_message(reader: asyncio.StreamReader, parent: int) -> ToWorker | None:
    """Read the next message; None once the calling process has exited or closed its end."""
    reading = asyncio.ensure_future(reader.readuntil(b"\n"))
    while True:
        # A forked child of the calling process may keep its end of the pipe open after its death.
        done, _ = await asyncio.wait({reading}, timeout=1.0)
        if done:
            try:
                return parse_message_to_worker(reading.result())
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
