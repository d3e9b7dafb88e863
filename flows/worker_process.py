"""The process of ``mimix worker``: Prefect's own worker, watched.

Prefect's worker waits on SIGTERM until its runs have finished, which takes days for a training.
Here the runs are killed and scheduled again, and another worker continues them from the store.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import AwaitingRetry

from flows.console import console
from flows.process_tree import descendants, kill
from flows.stranded_runs import sweep_in_background
from tasks.server_connection import best_effort

REPORT_SECONDS = 20.0
"""Time that the worker has to report the end of its runs to the server."""

ENDED = "Its worker was ended; another one continues from the results in the store"
_HEARTBEAT_SECONDS = "30"


def run_worker(pool: str, queues: Sequence[str], limit: int | None, name: str | None) -> int:
    """Run Prefect's worker until it ends, or until SIGTERM or SIGINT; return the exit code."""
    words = ["--pool", pool, "--parent", str(os.getpid())]
    words += [word for queue in queues for word in ("--queue", queue)]
    words += [] if limit is None else ["--limit", str(limit)]
    words += [] if name is None else ["--name", name]
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    environment = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": _HEARTBEAT_SECONDS, **os.environ}
    # prefect_environment silences Prefect for runs from the shell; a worker's log is its output.
    for variable in ("PREFECT_LOGGING_LEVEL", "PREFECT_SERVER_LOGGING_LEVEL"):
        environment.pop(variable, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.process_worker", *words],
        env=environment,
        start_new_session=True,
    )
    sweep_in_background(stopping)
    while process.poll() is None and not stopping.wait(0.2):
        pass
    if process.poll() is None:
        console.print("Ending the runs of this worker; another one continues them.")
        _stop(process)
        return 0
    return process.returncode


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let the worker take no more runs, kill the present ones, and schedule them again."""
    runs: set[UUID] = set()
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + REPORT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for child in descendants(process.pid):
            runs |= _run_of(child)
            kill(child)
        time.sleep(0.5)
    for child in (*descendants(process.pid), process.pid):
        kill(child)
    process.wait()
    with best_effort("the end of this worker's runs", retries=2):
        _schedule_again(runs)


def _run_of(pid: int) -> set[UUID]:
    """Return the run that a process executes, if any (Linux)."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return set()  # it ended a moment ago
    return {
        UUID(entry.partition(b"=")[2].decode())
        for entry in environment
        if entry.startswith(b"PREFECT__FLOW_RUN_ID=")
    }


def _schedule_again(runs: set[UUID]) -> None:
    """Give runs that were killed to other workers: Prefect's worker ends without reporting them."""
    with get_client(sync_client=True) as client:
        for run in runs:
            state = client.read_flow_run(run).state
            if state is not None and (state.is_running() or state.is_pending()):
                again: State[Any] = AwaitingRetry(scheduled_time=datetime.now(UTC), message=ENDED)
                client.set_flow_run_state(run, again, force=True)
