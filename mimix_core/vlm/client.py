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

from pydantic import BaseModel, ValidationError

from mimix_core.engine import progress
from mimix_core.errors import BadInput, MimixError, StageFailed
from mimix_core.settings.vlm_settings import VlmSettings
from mimix_core.vlm.api_keys import read_api_key, redact
from mimix_core.vlm.prices import model_price
from mimix_core.vlm.protocol import (
    BudgetExceeded,
    RateLimited,
    RejectedRequest,
    ResponseT,
    Unavailable,
    VlmOutcome,
    VlmRequest,
    VlmResponse,
)
from mimix_core.vlm.request_worker import (
    EndOfRequests,
    FatalError,
    RequestFailed,
    RequestSucceeded,
    SendRequest,
    StartWorker,
    StatusUpdate,
    ValidateResponse,
    ValidationResult,
    encode_message,
    read_message,
)
from mimix_core.vlm.response_cache import CachedResponse, ResponseCache

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
            digest = request.digest(settings.backend, settings.model)
            cached = cache.read(digest)
            outcome = None if cached is None else _build_outcome(request, cached, cached=True)
            if outcome is not None:
                yield outcome
            else:
                worker.submit(request, digest)
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
    request: VlmRequest[ResponseT], response: CachedResponse, *, cached: bool
) -> VlmOutcome[ResponseT] | None:
    """Build the outcome of a stored response; None if the request's model rejects it."""
    try:
        value = request.response_model.model_validate_json(response.text)
    except ValidationError:
        return None
    validated = VlmResponse(value, response.usage, response.cost_usd, response.model, cached)
    return VlmOutcome(request.id, validated, None, response.attempts, response.spent_usd)


def _validation_problem(model: type[BaseModel], text: str) -> str | None:
    """Return the first validation errors of a response, without quoting it; None if it is valid."""
    try:
        model.model_validate_json(text)
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False)[:3]
        return "the response does not match its model: " + "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'top level'}: {one['msg']}" for one in errors
        )
    return None


class _WorkerClient:
    """The caller's end of a worker process, which is started with the first request for it."""

    def __init__(self, settings: VlmSettings, cache: ResponseCache, total: int | None) -> None:
        self._settings, self._cache, self._total = settings, cache, total
        self._worker: subprocess.Popen[bytes] | None = None
        self._resources = ExitStack()
        self._log: IO[bytes] | None = None
        self._messages: queue.Queue[object | None] = queue.Queue()
        self._write_lock = threading.Lock()
        self._pending: dict[int, VlmRequest[Any]] = {}
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
        self._pending[number] = replace(request, messages=())
        sent = replace(
            request, response_model=BaseModel, schema=json.loads(json.dumps(request.schema))
        )
        self._send(SendRequest(number, digest, sent))

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

    def _handle(self, message: object | None) -> VlmOutcome[Any] | None:
        match message:
            case RequestSucceeded(number, response, is_new):
                self._consecutive_failures = 0
                outcome = _build_outcome(self._pending.pop(number), response, cached=not is_new)
                assert outcome is not None, "validated before by the same model"
                return outcome
            case RequestFailed(number, error, attempts, spent_usd):
                request = self._pending.pop(number)
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
            case FatalError(number, error):
                self._pending.pop(number, None)
                self.fatal_error = self.fatal_error or error
                if number < 0 or not isinstance(error, BudgetExceeded):
                    self._stop()
            case StatusUpdate(text):
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
            # Not in the caller's process group: the worker may outlive it by a request.
            start_new_session=True,
        )
        self._cache.root.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._read_messages, args=(self._worker,), daemon=True).start()
        self._send(StartWorker(self._settings, self._cache.root))

    def _read_messages(self, worker: subprocess.Popen[bytes]) -> None:
        assert worker.stdout is not None
        while (message := read_message(worker.stdout)) is not None:
            if isinstance(message, ValidateResponse):
                # In this thread, because the caller's may be busy with the next request.
                model = self._pending[message.number].response_model
                problem = _validation_problem(model, message.text)
                self._send(ValidationResult(message.validation_id, problem))
            else:
                self._messages.put(message)
        self._messages.put(None)

    def _send(self, message: object) -> None:
        assert self._worker is not None
        assert self._worker.stdin is not None
        with self._write_lock, suppress(BrokenPipeError, ValueError):
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
        with self._write_lock, suppress(BrokenPipeError):
            self._worker.stdin.close()
        if not self._pending:
            self._worker.wait()
        self._resources.close()
