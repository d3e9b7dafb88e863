"""Run units in subprocesses with timeouts, logs and progress reports; each can be killed.

A process runs units of one stage one after another, so that torch is imported once per worker and
not once per episode. A process that failed without a proper reply is not used again.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mimix_core.engine.child_environment import child_environment
from mimix_core.engine.worker import UnitReply, UnitRequest
from mimix_core.errors import BadInput, StageFailed, Transient
from mimix_core.tables import Reason
from tasks.unit_secrets import unit_secrets

LOG_TAIL_LINES = 15
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Units share the cores: a spinning thread of one starves the others (a LoRA step took 7 s instead
of 0.2 s). Telemetry is off: onnxruntime contacts its vendor some seconds after it started
(tests/e2e/test_offline.py counts packets)."""

TERMINATION_GRACE_SECONDS = 5.0
KILL_SECONDS = 1.0

IDLE_SECONDS = 60.0
"""A process that waits longer for another unit is terminated: a Dask worker is not notified when a
stage ends."""

POLL_SECONDS = 1.0
"""Interval of checks whether the process is alive: its own child may still hold its stdout open."""

ProgressCallback = Callable[[int, int, str], None]
"""Called with the number of steps done, their total, and a note."""


class UnitDied(StageFailed):
    """The process of a unit crashed, hung or raised an unexpected error, possibly due to its input.

    ``reason`` and ``detail`` can be stored in a table: they contain no path and no time of day.
    ``is_retryable``: whether a temporary problem of the machine is possible, which justifies one
    more attempt.
    """

    def __init__(
        self, message: str, reason: Reason, detail: str, *, is_retryable: bool = True
    ) -> None:
        super().__init__(message)
        self.reason, self.detail, self.is_retryable = reason, detail, is_retryable

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all fields, not only the message: a Dask worker sends this error to the run."""
        return type(self), (str(self), self.reason, self.detail), self.__dict__


class RunCancelled(StageFailed):
    """The run was cancelled; the death of a unit says nothing about its input."""


class UnitProcess:
    """A subprocess ``python -m mimix_core.engine.worker`` in a separate process group."""

    def __init__(self, secrets: frozenset[str] = frozenset()) -> None:
        """``secrets``: names of the variables with secrets that the process gets."""
        self.secrets = secrets
        self._child = subprocess.Popen(
            [sys.executable, "-m", "mimix_core.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**ENVIRONMENT, **child_environment(secrets)},
            start_new_session=True,
        )
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read_messages, daemon=True).start()
        _processes.add(self)

    def _read_messages(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._messages.put(json.loads(line))
        self._messages.put(None)

    def run(
        self,
        request: UnitRequest,
        timeout_seconds: float | None,
        stall_seconds: float | None,
        on_progress: ProgressCallback,
    ) -> UnitReply:
        """Run a unit and return its reply. Raises UnitDied on a crash, a stall or a timeout."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(request.model_dump_json().encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError as error:
            raise self._exit_error(request) from error
        deadline = _deadline_after(timeout_seconds)
        stall_deadline = _deadline_after(stall_seconds)
        while True:
            left = min(deadline, stall_deadline) - time.monotonic()
            try:
                message = self._messages.get(timeout=max(0.0, min(left, POLL_SECONDS)))
            except queue.Empty:
                if self._child.poll() is not None and self._messages.empty():
                    raise self._exit_error(request) from None
                if left <= 0:
                    raise _timeout_error(
                        request, timeout_seconds, stall_seconds, deadline
                    ) from None
                continue
            if message is None:
                raise self._exit_error(request)
            if "reply" in message:
                return UnitReply.model_validate(message["reply"])
            stall_deadline = _deadline_after(stall_seconds)
            on_progress(message["done"], message["total"], message["note"])

    def _exit_error(self, request: UnitRequest) -> UnitDied:
        code = self._child.wait()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return UnitDied(
            f"stage {request.stage} ended by {cause}. Log: {request.log}\n{_log_tail(request.log)}",
            Reason.DECODER_CRASHED,
            f"the process that read the file ended by {cause}",
        )

    def terminate(self) -> None:
        """End the complete process group: SIGTERM first, then SIGKILL."""
        _processes.discard(self)
        try:
            os.killpg(self._child.pid, signal.SIGTERM)
            self._child.wait(TERMINATION_GRACE_SECONDS)
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # no process of the group is left
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
        finally:
            # A process that waits for an unresponsive disk cannot be killed until the disk answers;
            # the run does not wait for that.
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(TERMINATION_GRACE_SECONDS)
            _wait_for_group(self._child.pid)
            if self._child.stdin is not None:
                with suppress(BrokenPipeError):
                    self._child.stdin.close()


def _wait_for_group(group: int) -> None:
    """Wait until no process of a killed group is left: SIGKILL takes effect a moment later.

    Not for long: without an init process that reaps them, dead processes stay.
    """
    deadline = time.monotonic() + KILL_SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)


def _deadline_after(seconds: float | None) -> float:
    """Return the monotonic time that many seconds from now; infinity for None."""
    return math.inf if seconds is None else time.monotonic() + seconds


def _timeout_error(
    request: UnitRequest,
    timeout_seconds: float | None,
    stall_seconds: float | None,
    deadline: float,
) -> UnitDied:
    timed_out = time.monotonic() >= deadline
    if timed_out:
        assert timeout_seconds is not None
        limit, key, symptom = timeout_seconds, "timeout_minutes", "ran longer than"
    else:
        assert stall_seconds is not None
        limit, key, symptom = stall_seconds, "stall_timeout_minutes", "reported no progress for"
    cause = f"{symptom} {limit / 60:g} minutes"
    return UnitDied(
        f"stage {request.stage} {cause} and was terminated. Raise run.{key} if it needs more. "
        f"Log: {request.log}",
        Reason.DECODER_HUNG,
        f"the process that read the file {cause} and was terminated",
        is_retryable=not timed_out,
    )


_processes: set[UnitProcess] = set()
_cancelled = threading.Event()
_idle: dict[str, list[tuple[UnitProcess, threading.Timer]]] = {}
_idle_lock = threading.Lock()


def run_in_subprocess(
    request: UnitRequest,
    *,
    timeout_seconds: float | None,
    stall_seconds: float | None = None,
    new_process: bool = False,
    on_progress: ProgressCallback,
) -> UnitReply:
    """Run a unit in an idle process of its stage, or in a new one, and return its reply.

    ``on_progress(done, total, note)`` is called when the unit makes progress; a unit that reports
    none for ``stall_seconds`` is killed. ``new_process``: never use an idle process. Raises
    BadInput and Transient like the unit itself, UnitDied if its process crashed, hung, ran out of
    memory or raised an unexpected error, RunCancelled after ``terminate_all_units``, and
    StageFailed for everything else.
    """
    request.log.parent.mkdir(parents=True, exist_ok=True)
    secrets = unit_secrets(request)
    process = None if new_process else _pop_idle_process(request.stage, secrets)
    if process is None:
        process = UnitProcess(secrets)
    try:
        if _cancelled.is_set():
            raise RunCancelled(f"stage {request.stage} was terminated with its run")
        reply = process.run(request, timeout_seconds, stall_seconds, on_progress)
    except UnitDied as error:
        process.terminate()
        if _cancelled.is_set():
            raise RunCancelled(f"stage {request.stage} was terminated with its run") from error
        raise
    except BaseException:
        process.terminate()
        raise
    if reply.error == "out_of_memory":
        process.terminate()  # its memory may not be released otherwise
        raise UnitDied(
            f"stage {request.stage} {reply.message}. Raise run.memory_limit_gb if it needs more. "
            f"Log: {request.log}",
            Reason.DECODER_CRASHED,
            f"the process that read the file {reply.message}",
        )
    _add_idle_process(request.stage, process)
    if reply.error == "unforeseen":
        exception_name = reply.message.partition(":")[0]
        raise UnitDied(
            f"stage {request.stage}: {reply.message}\nLog: {request.log}",
            Reason.UNFORESEEN_ERROR,
            f"the process that read the file raised an unexpected {exception_name}",
            is_retryable=False,
        )
    if reply.error == "bad_input":
        raise BadInput(reply.message)
    if reply.error == "transient":
        raise Transient(reply.message)
    if reply.error is not None:
        raise StageFailed(f"stage {request.stage}: {reply.message}\nLog: {request.log}")
    return reply


def _pop_idle_process(stage: str, secrets: frozenset[str]) -> UnitProcess | None:
    """Take an idle process of this stage that has these secrets; None if there is none."""
    with _idle_lock:
        idle = _idle.get(stage, [])
        entry = next((one for one in reversed(idle) if one[0].secrets == secrets), None)
        if entry is None:
            return None
        idle.remove(entry)
    process, timer = entry
    timer.cancel()
    return process


def _add_idle_process(stage: str, process: UnitProcess) -> None:
    """Reserve the process for another unit of its stage, for IDLE_SECONDS at most."""
    timer = threading.Timer(IDLE_SECONDS, _expire_idle_process, (stage, process))
    timer.daemon = True
    with _idle_lock:
        _idle.setdefault(stage, []).append((process, timer))
    timer.start()


def _expire_idle_process(stage: str, process: UnitProcess) -> None:
    with _idle_lock:
        idle = _idle.get(stage, [])
        remaining = [entry for entry in idle if entry[0] is not process]
        if len(remaining) == len(idle):
            return  # a unit took it a moment ago
        _idle[stage] = remaining
    process.terminate()


def stop_idle_units(stage: str) -> None:
    """Terminate the idle processes of this stage."""
    with _idle_lock:
        idle = _idle.pop(stage, [])
    for process, timer in idle:
        timer.cancel()
        process.terminate()


def terminate_all_units() -> None:
    """Terminate all unit processes of this run, busy or idle, in parallel, and start no new ones.

    Unfinished units are not committed and no file is blamed: the next run computes them.
    """
    _cancelled.set()
    threads = [threading.Thread(target=process.terminate) for process in list(_processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _log_tail(log: Path) -> str:
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
