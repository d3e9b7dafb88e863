"""A run that is cancelled: its units are terminated at once, and no file is blamed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import shutdown
from mimix_core.engine.store import Store
from mimix_core.engine.worker import build_request
from tasks import subprocess_runner
from tests.tasks.fake_stage import STAGE, FakeInputs, FakeSettings


def test_a_unit_terminated_with_its_run_does_not_blame_its_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage defines failed_rows, which must not be used in this case."""
    monkeypatch.setattr(subprocess_runner, "_cancelled", threading.Event())
    run_log = tmp_path / "run_log"
    inputs = FakeInputs(behavior="hang", run_log=str(run_log))
    request = build_request(STAGE, store, inputs, FakeSettings(), tmp_path / "log")
    raised: list[BaseException] = []

    def work() -> None:
        try:
            subprocess_runner.run_in_subprocess(
                request, timeout_seconds=None, on_progress=lambda *progress: None
            )
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not run_log.exists() or run_log.read_text().count("\n") < 2:
        time.sleep(0.05)
    processes = [int(word) for word in run_log.read_text().split()]
    began = time.monotonic()
    subprocess_runner.terminate_all_units()
    assert time.monotonic() - began < 2 * subprocess_runner.TERMINATION_GRACE_SECONDS
    thread.join()
    assert [type(error) for error in raised] == [subprocess_runner.RunCancelled]
    assert not any(alive(pid) for pid in processes)
    assert not list(store.records())
    with pytest.raises(subprocess_runner.RunCancelled):
        subprocess_runner.run_in_subprocess(
            request, timeout_seconds=None, on_progress=lambda *progress: None
        )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


ANSWER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200), self.end_headers()
    def log_message(self, *words): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def test_a_run_does_not_take_the_server_of_another_run_for_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both draw the same port, and the other one is first to listen."""

    def answer(port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", ANSWER, str(port)])

    taken = shutdown._find_free_port()
    monkeypatch.setattr(SubprocessASGIServer, "_instances", {})
    monkeypatch.setattr(SubprocessASGIServer, "find_available_port", lambda server: taken)
    monkeypatch.setattr(
        SubprocessASGIServer, "_run_uvicorn_command", lambda server: answer(server.port)
    )
    monkeypatch.setattr(shutdown, "_end_with_server", lambda server: None)
    other = answer(taken)
    try:
        with temporary_settings({PREFECT_API_URL: None}):
            shutdown.start_ephemeral_server()
        assert SubprocessASGIServer().port != taken
        assert SubprocessASGIServer().server_process.poll() is None
    finally:
        other.kill()
        other.wait()
        SubprocessASGIServer().stop()
        shutdown._server_watchdogs.pop().communicate()
