"""Run many requests: cached responses are read from disk, the rest go through a worker process."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from mimix_core.engine import progress
from mimix_core.engine.child_environment import child_environment
from mimix_core.errors import BadInput, MimixError, StageFailed, Transient
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.api_keys import read_api_key, redact, secret_variables
from mimix_core.vlm.prices import model_price
from mimix_core.vlm.protocol import (
    BudgetExceeded,
    InvalidResponse,
    ModelInput,
    RateLimited,
    RejectedRequest,
    ResponseT,
    Unavailable,
    VlmOutcome,
    VlmRequest,
    VlmResponse,
)
from mimix_core.vlm.request_messages import (
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
    parse_message_from_worker,
)
from mimix_core.vlm.response_cache import CachedResponse, ResponseCache
from mimix_core.vlm.response_parser import UnparsableResponse, parse_json_object

POLL_SECONDS = 1.0
MAX_CONSECUTIVE_FAILURES = 10
"""After this many failures in a row the cause is the server, not the requests."""


def run_requests(
    requests: Iterable[VlmRequest[ResponseT]],
    settings: VlmSettings,
    cache_folder: Path,
    total: int | None = None,
) -> Iterator[VlmOutcome[ResponseT]]:
    """Yield exactly one outcome per request as soon as it is known, in any order.

    The iterable is consumed in the caller's thread, only as fast as requests are sent.
    ``cache_folder`` is shared by all processes of a workspace. ``total`` is the number of requests,
    for progress reports.

    Raises BudgetExceeded after the outcomes of all requests in flight; BadCredentials and BadInput
    when no request can be sent; Unavailable after too many consecutive failures. Responses that
    were paid for are stored in any case.
    """
    model_price(settings)
    if settings.mode == "batch" and settings.backend != "openai":
        raise BadInput(
            f"batches are not supported for backend {settings.backend}",
            where="mode",
            fix="mode: live",
        )
    cache = ResponseCache(cache_folder)
    worker = _WorkerClient(settings, cache, total)
    try:
        for request in requests:
            digest = request.digest(settings)
            cached = cache.read(digest)
            if cached is None:
                worker.submit(request, digest)
            else:
                yield _build_outcome(request, cached, cached=True)
            yield from worker.outcomes()
            if worker.fatal_error is not None:
                break
        worker.end_requests()
        yield from worker.outcomes(wait_for_all=True)
        if worker.fatal_error is not None:
            raise worker.fatal_error
    finally:
        worker.close()


def _build_outcome(
    request: VlmRequest[ResponseT], stored: CachedResponse, *, cached: bool
) -> VlmOutcome[ResponseT]:
    """Build the outcome of a stored response: its error if it is of no use, or invalid."""
    response = None
    error = None if stored.error is None else stored.error.to_error()
    if error is None:
        try:
            found = parse_json_object(stored.text, request.schema)
            value = request.response_model.model_validate_json(json.dumps(found))
            response = VlmResponse(value, stored.usage, stored.cost_usd, stored.model)
        except UnparsableResponse as unparsable:
            error = InvalidResponse(str(unparsable), stored.usage, text=stored.text)
        except ValidationError as invalid:
            error = InvalidResponse(_describe(invalid), stored.usage, text=stored.text)
    return VlmOutcome(request.id, response, error, stored.attempts, stored.spent_usd, cached)


def _describe(error: ValidationError) -> str:
    """Describe the first validation errors of a response, without quoting it."""
    errors = error.errors(include_input=False, include_url=False)[:3]
    return "the response does not match its model: " + "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'top level'}: {one['msg']}" for one in errors
    )


class _WorkerClient:
    """The caller's end of a worker process, which is started with the first request for it."""

    def __init__(self, settings: VlmSettings, cache: ResponseCache, total: int | None) -> None:
        self._settings, self._cache, self._total = settings, cache, total
        self._worker: subprocess.Popen[bytes] | None = None
        self._resources = ExitStack()
        self._log: IO[bytes] | None = None
        self._messages: queue.Queue[FromWorker | None] = queue.Queue()
        self._pending: dict[int, tuple[VlmRequest[Any], str]] = {}
        self._window = 2 * settings.max_concurrency + 8
        self._submitted = 0
        self._finished = 0
        self._consecutive_failures = 0
        self._stopped = False
        self.fatal_error: MimixError | None = None

    def submit(self, request: VlmRequest[Any], digest: str) -> None:
        """Send a request to the worker process."""
        if self._worker is None:
            self._start()
        number = self._submitted
        self._submitted += 1
        # Keep only what validation needs: the images are in the message to the worker.
        self._pending[number] = replace(request, messages=()), digest
        model_input = ModelInput(
            messages=request.messages,
            schema=request.schema,
            max_output_tokens=request.max_output_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            reasoning_effort=request.reasoning_effort,
            retry=request.retry,
        )
        self._send(SendRequest(number=number, digest=digest, model_input=model_input))

    def end_requests(self) -> None:
        """Tell the worker that no more requests will follow."""
        if self._worker is not None:
            self._send(EndOfRequests())

    def outcomes(self, *, wait_for_all: bool = False) -> Iterator[VlmOutcome[Any]]:
        """Yield available outcomes; block while more requests are pending than the window holds.

        ``wait_for_all``: block until all outcomes are there that the worker still delivers.
        """
        while self._pending and not self._stopped:
            full = len(self._pending) >= self._window and self._settings.mode == "live"
            blocking = wait_for_all or full
            try:
                message = self._messages.get(timeout=POLL_SECONDS if blocking else 0)
            except queue.Empty:
                if not blocking:
                    return
                self._report_progress("waiting for responses")
                continue
            outcome = self._handle(message)
            if outcome is not None:
                self._finished += 1
                yield outcome

    def _handle(self, message: FromWorker | None) -> VlmOutcome[Any] | None:
        match message:
            case ResponseCached(number=number, is_new=is_new):
                self._consecutive_failures = 0
                request, digest = self._pending.pop(number)
                stored = self._cache.read(digest)
                if stored is None:
                    raise Transient(
                        f"the cached response to {request.id} was deleted while it was read"
                    )
                return _build_outcome(request, stored, cached=not is_new)
            case RequestFailed(number=number, attempts=attempts, spent_usd=spent_usd):
                request, _ = self._pending.pop(number)
                error = message.error.to_error()
                if isinstance(error, Unavailable | RejectedRequest | RateLimited):
                    self._consecutive_failures += 1
                else:
                    self._consecutive_failures = 0
                if (
                    self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES
                    and self.fatal_error is None
                ):
                    self.fatal_error = Unavailable(
                        f"the server failed {self._consecutive_failures} requests in a row, the "
                        f"last one with: {error}"
                    )
                    self._stop()
                return VlmOutcome(request.id, None, error, attempts, spent_usd)
            case WorkerFailed(number=failed):
                if failed is not None:
                    self._pending.pop(failed)
                fatal_error = message.error.to_error()
                self.fatal_error = self.fatal_error or fatal_error
                if failed is None or not isinstance(fatal_error, BudgetExceeded):
                    self._stop()
            case StatusUpdate(text=text):
                self._report_progress(text)
            case None:
                self._stopped = True
                if self.fatal_error is None:
                    self.fatal_error = StageFailed(
                        f"the process that sends requests to the model died. {self._log_tail()}"
                    )
        return None

    def _stop(self) -> None:
        """Deliver no more outcomes; the worker finishes requests in flight by itself."""
        self._stopped = True

    def _report_progress(self, note: str) -> None:
        progress.report_progress(self._finished, self._total or max(self._submitted, 1), note)

    def _start(self) -> None:
        read_api_key(self._settings)  # report a missing key before a process is started
        self._log = self._resources.enter_context(
            tempfile.TemporaryFile()  # noqa: SIM115 - the stack closes it
        )
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "mimix_core.vlm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=child_environment(secret_variables(self._settings)),
            # Not in the caller's process group: the worker may outlive it by a request.
            start_new_session=True,
        )
        self._cache.root.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._read_messages, args=(self._worker,), daemon=True).start()
        self._send(StartWorker(settings=self._settings, cache_folder=self._cache.root))

    def _read_messages(self, worker: subprocess.Popen[bytes]) -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.endswith(b"\n"):  # otherwise the worker was killed while it wrote
                self._messages.put(parse_message_from_worker(line))
        self._messages.put(None)

    def _send(self, message: ToWorker) -> None:
        assert self._worker is not None
        assert self._worker.stdin is not None
        with suppress(BrokenPipeError):
            # The end of the worker's output reports that it is gone.
            self._worker.stdin.write(encode_message(message))
            self._worker.stdin.flush()

    def _log_tail(self) -> str:
        assert self._log is not None
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return redact(" ".join(lines[-3:]), read_api_key(self._settings))

    def close(self) -> None:
        """Close the worker's input, which ends it; wait for it if no request is pending."""
        if self._worker is None:
            return
        assert self._worker.stdin is not None
        with suppress(BrokenPipeError):
            self._worker.stdin.close()
        if not self._pending:
            self._worker.wait()
        self._resources.close()
