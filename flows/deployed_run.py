"""Execute the flow run that a worker starts: ``python -m flows.deployed_run``.

The command of all deployments that `mimix deploy` creates. It is Prefect's own, ``python -m
prefect.engine``, which ends in failure when the server is down while it starts or reports; here the
process waits for the server and starts again. Results are in the store, so that costs seconds.
"""

from __future__ import annotations

import atexit
import logging
import os
import runpy
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from tasks.server_connection import is_outage, wait_for_server

ENGINE_LOGGER = "prefect.engine"
RESTART_SECONDS = 2.0
CHUNK_BYTES = 1 << 16


class OutageObserver(logging.Handler):
    """Notice that the engine ended because the server was down; it only logs that."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen = False

    def emit(self, record: logging.LogRecord) -> None:
        """Look at the error that the engine logs, and at its causes."""
        error = record.exc_info[1] if record.exc_info else None
        while error is not None and not self.seen:
            self.seen = is_outage(error)
            error = error.__cause__ or error.__context__


def main() -> None:
    environment = dict(os.environ)
    restore_output = [survive_closed_output(number) for number in (1, 2)]
    import prefect.flow_engine  # noqa: F401 - takes seconds: load it before the server is asked

    observer = OutageObserver()
    logging.getLogger(ENGINE_LOGGER).addHandler(observer)
    wait_for_server(_announce)
    try:
        runpy.run_module(ENGINE_LOGGER, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not observer.seen or not end.code:
            raise
        _announce("The server did not answer; starting the run again")
        threading.Event().wait(RESTART_SECONDS)
        for restore in restore_output:
            restore()
        os.execve(sys.executable, [sys.executable, "-m", "flows.deployed_run"], environment)


def survive_closed_output(number: int) -> Callable[[], None]:
    """Discard what is written to a file descriptor once its reader, the worker, is gone.

    Otherwise a line of a log would end a run whose worker was killed. Returns a function that
    flushes and restores the descriptor; it is also called at exit.
    """
    target = os.dup(number)
    source, sink = os.pipe()
    os.dup2(sink, number)
    os.close(sink)

    def copy() -> None:
        while chunk := os.read(source, CHUNK_BYTES):
            with suppress(OSError):  # nobody reads it any more
                _write_all(target, chunk)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()

    def restore() -> None:
        with suppress(OSError):
            (sys.stdout if number == 1 else sys.stderr).flush()
        os.dup2(target, number)
        thread.join(1.0)

    atexit.register(restore)
    return restore


def _write_all(target: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(target, view) :]


def _announce(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
