"""Run units in child process groups: timed, killable, their logs kept, their progress heard.

A process runs units of one stage one after another, so that torch is imported once a worker and
not once an episode. One that failed in any way other than by a clean reply is not used again.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mimix_core.errors import BadInput, StageFailed, Transient
from mimix_core.unit import UnitReply, UnitRequest

LOG_TAIL_LINES = 15
GRACE_SECONDS = 5.0

Hear = Callable[[int, int, str], None]


class UnitProcess:
    """One ``python -m mimix_core.unit``, leading a process group of its own."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "mimix_core.unit"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Units share the cores: a spinning OpenMP thread of one starves the others (a LoRA step
            # took 7 s instead of 0.2 s).
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
            start_new_session=True,
        )
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        _living.add(self)

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)

    def run(self, asked: UnitRequest, timeout_seconds: float, hear: Hear) -> UnitReply:
        """The unit's reply. Raises StageFailed when the process dies or takes too long."""
        assert self._child.stdin is not None
        self._child.stdin.write(asked.model_dump_json().encode() + b"\n")
        self._child.stdin.flush()
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                said = self._said.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty as error:
                raise StageFailed(
                    f"stage {asked.stage} ran longer than {timeout_seconds / 60:g} minutes and "
                    f"was ended. Raise run.timeout_minutes if it needs more. Log: {asked.log}"
                ) from error
            if said is None:
                code = self._child.wait()
                cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                raise StageFailed(
                    f"stage {asked.stage} ended by {cause}. Log: {asked.log}\n{_tail(asked.log)}"
                )
            if "reply" in said:
                return UnitReply.model_validate(said["reply"])
            hear(said["done"], said["total"], said["note"])

    def end(self) -> None:
        """End the whole process group: asked first, then killed. Nothing of it is left."""
        _living.discard(self)
        try:
            os.killpg(self._child.pid, signal.SIGTERM)
            self._child.wait(GRACE_SECONDS)
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # nobody of the group is left
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
        finally:
            self._child.wait()
            if self._child.stdin is not None:
                self._child.stdin.close()


_living: set[UnitProcess] = set()
_idle: dict[str, list[UnitProcess]] = {}
_idle_lock = threading.Lock()


def run_child(asked: UnitRequest, *, timeout_seconds: float, hear: Hear) -> UnitReply:
    """Run a unit in an idle process of its stage, or a new one, and give its reply.

    ``hear(done, total, note)`` is called as the unit makes progress. Raises BadInput or Transient
    as the unit did, and StageFailed for all else: a bug, a crash, a timeout.
    """
    asked.log.parent.mkdir(parents=True, exist_ok=True)
    with _idle_lock:
        waiting = _idle.get(asked.stage)
        process = waiting.pop() if waiting else None
    if process is None:
        process = UnitProcess()
    try:
        reply = process.run(asked, timeout_seconds, hear)
    except BaseException:
        process.end()
        raise
    with _idle_lock:
        _idle.setdefault(asked.stage, []).append(process)
    if reply.error == "bad_input":
        raise BadInput(reply.message)
    if reply.error == "transient":
        raise Transient(reply.message)
    if reply.error is not None:
        raise StageFailed(f"stage {asked.stage}: {reply.message}\nLog: {asked.log}")
    return reply


def end_idle(stage: str) -> None:
    """End the processes that wait for more units of this stage."""
    with _idle_lock:
        waiting = _idle.pop(stage, [])
    for process in waiting:
        process.end()


def end_all() -> None:
    """End every unit process of this run, busy or idle."""
    for process in list(_living):
        process.end()


def _tail(log: Path) -> str:
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
