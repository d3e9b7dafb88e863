"""End a run on a signal: immediately, with all processes that it started.

A run from the shell has a temporary Prefect server, which ends with it. By default, Prefect would
report the end of the run to that server, which got the same signal, and retry for over a minute.
If that server alone ends (killed for memory, say), Prefect would retry each event of the run for
seven seconds, hundreds of them; the run ends instead.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import threading
import time
from types import FrameType
from typing import NoReturn

from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from flows.console import console
from mimix_core.engine.child_environment import child_environment, hidden_secrets
from tasks.subprocess_runner import terminate_all_units

_WATCH_SECONDS = 0.5
_FAILED = 1

_ending = threading.Event()
_server_watchdogs: list[subprocess.Popen[bytes]] = []


def install_signal_handlers() -> None:
    """Let Ctrl-C and SIGTERM end this process; Prefect handles SIGTERM while a flow runs."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _handle_signal)


def terminate_units() -> None:
    """Terminate all units, and also this process if its Prefect server is temporary."""
    terminate_all_units()
    if _own_server() is not None:
        _exit(signal.SIGTERM)


def start_ephemeral_server() -> None:
    """Start a temporary Prefect server if none is configured; it ends with this process.

    It also ends if this process is killed: a shell waits on a pipe that closes then (POSIX).
    """
    if get_current_settings().api.url is not None:
        return
    # Prefect draws one of a thousand ports. If another run draws the same before either listens,
    # one of them would find the other's server answering, and end when it misses its own.
    temporary = SubprocessASGIServer()
    temporary.port = _find_free_port()
    with hidden_secrets("PREFECT_"):
        temporary.start()
    server = _own_server()
    assert server is not None
    _server_watchdogs.append(
        subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -KILL "$0" 2>/dev/null', str(server.pid)],
            stdin=subprocess.PIPE,
            env=child_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    )
    # Called before Prefect's own handler, which ends the server.
    atexit.register(_ending.set)
    threading.Thread(target=_end_with_server, args=(server,), daemon=True).start()


def _find_free_port() -> int:
    """Return a port that nothing listens on, from the system's own range."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_server(server: subprocess.Popen[bytes]) -> None:
    """End this process if its server ends before it."""
    while server.poll() is None:
        time.sleep(_WATCH_SECONDS)
    if _ending.is_set():
        return
    terminate_all_units()
    console.print(
        "[bold red]error[/bold red] the temporary Prefect server of this run has ended "
        f"({server.returncode}). Finished units are saved: the same command continues from here."
    )
    os._exit(_FAILED)


def _own_server() -> subprocess.Popen[bytes] | None:
    return SubprocessASGIServer().server_process


def _handle_signal(number: int, frame: FrameType | None) -> NoReturn:
    terminate_all_units()
    _exit(number)


def _exit(number: int) -> NoReturn:
    _ending.set()
    console.print("Interrupted. Finished units are saved: the same command continues from here.")
    SubprocessASGIServer().stop()
    os._exit(128 + number)
