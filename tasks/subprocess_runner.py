"""Run units in child process groups: timed, killable, their logs kept, their progress heard.

A process runs units of one stage one after another, so that torch is imported once a worker and
not once an episode. One that failed in any way other than by a clean reply is not used again.
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

from mimix_core.engine.worker import UnitReply, UnitRequest
from mimix_core.errors import BadInput, StageFailed, Transient
from mimix_core.tables import Reason

LOG_TAIL_LINES = 15
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Units share the cores: a spinning thread of one starves the others (a LoRA step took 7 s instead
of 0.2 s). And they tell nobody outside: onnxruntime calls its maker some seconds after it started
(tests/e2e/test_offline.py counts)."""

TERMINATION_GRACE_SECONDS = 5.0

IDLE_SECONDS = 60.0
"""A process that waits longer for another unit is ended: in a Dask worker nobody says that a stage
is over."""

POLL_SECONDS = 1.0
"""A process may be gone while a child of it holds its stdout open: looked at so often."""

ProgressCallback = Callable[[int, int, str], None]


class UnitDied(StageFailed):
    """The process of a unit crashed, hung or met an error that nobody foresaw: what it was given
    may be to blame.

    ``reason`` and ``detail`` may stand in a table: they name no path and no time of day.
    ``again``: whether it may have been the machine's hiccup, so that one more try makes sense.
    """

    def __init__(self, message: str, reason: Reason, detail: str, *, again: bool = True) -> None:
        super().__init__(message)
        self.reason, self.detail, self.is_retryable = reason, detail, again

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions are pickled by their message alone; a Dask worker sends this one home."""
        return type(self), (str(self), self.reason, self.detail), self.__dict__


class RunCancelled(StageFailed):
    """The run is being ended from outside: a unit's death now says nothing of what it was given."""


class UnitProcess:
    """One ``python -m mimix_core.engine.worker``, leading a process group of its own."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "mimix_core.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**ENVIRONMENT, **os.environ},
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
        """The unit's reply. Raises UnitDied when the process dies, falls silent or is too slow."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(request.model_dump_json().encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError as error:
            raise self._exit_error(request) from error
        deadline = _deadline_after(timeout_seconds)
        silent_until = _deadline_after(stall_seconds)
        while True:
            left = min(deadline, silent_until) - time.monotonic()
            try:
                said = self._messages.get(timeout=max(0.0, min(left, POLL_SECONDS)))
            except queue.Empty:
                if self._child.poll() is not None and self._messages.empty():
                    raise self._exit_error(request) from None
                if left <= 0:
                    raise _timeout_error(request, timeout_seconds, stall_seconds, deadline) from None
                continue
            if said is None:
                raise self._exit_error(request)
            if "reply" in said:
                return UnitReply.model_validate(said["reply"])
            silent_until = _deadline_after(stall_seconds)
            on_progress(said["done"], said["total"], said["note"])

    def _exit_error(self, asked: UnitRequest) -> UnitDied:
        code = self._child.wait()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return UnitDied(
            f"stage {asked.stage} ended by {cause}. Log: {asked.log}\n{_log_tail(asked.log)}",
            Reason.DECODER_CRASHED,
            f"the process that read the file ended by {cause}",
        )

    def terminate(self) -> None:
        """End the whole process group: asked first, then killed. Nothing of it is left."""
        _processes.discard(self)
        try:
            os.killpg(self._child.pid, signal.SIGTERM)
            self._child.wait(TERMINATION_GRACE_SECONDS)
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # nobody of the group is left
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
        finally:
            # One that waits for a dead disk cannot even be killed. It goes when the disk answers;
            # the run does not wait for that.
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(TERMINATION_GRACE_SECONDS)
            if self._child.stdin is not None:
                with suppress(BrokenPipeError):
                    self._child.stdin.close()


def _deadline_after(seconds: float | None) -> float:
    """The moment that many seconds from now; never without any."""
    return math.inf if seconds is None else time.monotonic() + seconds


def _timeout_error(
    asked: UnitRequest,
    timeout_seconds: float | None,
    stall_seconds: float | None,
    deadline: float,
) -> UnitDied:
    if time.monotonic() >= deadline:
        assert timeout_seconds is not None
        limit, key, did, again = timeout_seconds, "timeout_minutes", "ran longer than", False
    else:
        assert stall_seconds is not None
        limit, key, did, again = stall_seconds, "stall_timeout_minutes", "said nothing for", True
    words = f"{did} {limit / 60:g} minutes"
    return UnitDied(
        f"stage {asked.stage} {words} and was ended. Raise run.{key} if it needs more. "
        f"Log: {asked.log}",
        Reason.DECODER_HUNG,
        f"the process that read the file {words} and was ended",
        again=again,
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
    """Run a unit in an idle process of its stage, or a new one, and give its reply.

    ``hear(done, total, note)`` is called as the unit makes progress; one that makes none for
    ``stall_seconds`` is killed. ``fresh``: in a new process in any case. Raises BadInput or
    Transient as the unit did, UnitDied when its process crashed, hung, ran out of memory or met an
    error that nobody foresaw, Leaving when ``end_all`` ended it, and StageFailed for all else.
    """
    request.log.parent.mkdir(parents=True, exist_ok=True)
    process = None if new_process else _pop_idle_process(request.stage)
    if process is None:
        process = UnitProcess()
    try:
        if _cancelled.is_set():
            raise RunCancelled(f"stage {request.stage} was ended with its run")
        reply = process.run(request, timeout_seconds, stall_seconds, on_progress)
    except UnitDied as died:
        process.terminate()
        if _cancelled.is_set():
            raise RunCancelled(f"stage {request.stage} was ended with its run") from died
        raise
    except BaseException:
        process.terminate()
        raise
    if reply.error == "out_of_memory":
        process.terminate()  # what it holds is not given back
        raise UnitDied(
            f"stage {request.stage} {reply.message}. Raise run.memory_limit_gb if it needs more. "
            f"Log: {request.log}",
            Reason.DECODER_CRASHED,
            f"the process that read the file {reply.message}",
        )
    _add_idle_process(request.stage, process)
    if reply.error == "unforeseen":
        kind = reply.message.partition(":")[0]
        raise UnitDied(
            f"stage {request.stage}: {reply.message}\nLog: {request.log}",
            Reason.UNFORESEEN_ERROR,
            f"the process that read the file met an error that nobody foresaw, {kind}",
            again=False,
        )
    if reply.error == "bad_input":
        raise BadInput(reply.message)
    if reply.error == "transient":
        raise Transient(reply.message)
    if reply.error is not None:
        raise StageFailed(f"stage {request.stage}: {reply.message}\nLog: {request.log}")
    return reply


def _pop_idle_process(stage: str) -> UnitProcess | None:
    """A process that waits for a unit of this stage, if there is one."""
    with _idle_lock:
        waiting = _idle.get(stage)
        if not waiting:
            return None
        process, timer = waiting.pop()
    timer.cancel()
    return process


def _add_idle_process(stage: str, process: UnitProcess) -> None:
    """Let the process wait for another unit of its stage, for a while."""
    timer = threading.Timer(IDLE_SECONDS, _expire_idle_process, (stage, process))
    timer.daemon = True
    with _idle_lock:
        _idle.setdefault(stage, []).append((process, timer))
    timer.start()


def _expire_idle_process(stage: str, process: UnitProcess) -> None:
    with _idle_lock:
        waiting = _idle.get(stage, [])
        left = [entry for entry in waiting if entry[0] is not process]
        if len(left) == len(waiting):
            return  # taken a moment ago
        _idle[stage] = left
    process.terminate()


def stop_idle_units(stage: str) -> None:
    """End the processes that wait for more units of this stage."""
    with _idle_lock:
        waiting = _idle.pop(stage, [])
    for process, timer in waiting:
        timer.cancel()
        process.terminate()


def terminate_all_units() -> None:
    """End every unit process of this run, busy or idle, all at once, and let no other one begin.

    What the units were at is not committed and no file is blamed: the next run takes it up.
    """
    _cancelled.set()
    ending = [threading.Thread(target=process.terminate) for process in list(_processes)]
    for thread in ending:
        thread.start()
    for thread in ending:
        thread.join()


def _log_tail(log: Path) -> str:
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
