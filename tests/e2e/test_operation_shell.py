"""``mimix curate`` from the shell, interrupted by a signal: no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deployments.project_factory import write_project
from tests.deployments.site import marked
from tests.e2e.demo import ROOT

pytestmark = pytest.mark.e2e


@contextmanager
def _working_run(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start `mimix curate`; yield it and the mark of its processes once a unit is at work."""
    settings = write_project(tmp_path / "project")
    mark = f"MIMIX_TEST_RUN={tmp_path}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    run = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "curate", str(settings)],
        cwd=ROOT,
        env={**kept, "PREFECT_HOME": str(tmp_path / "home"), **dict([mark.split("=", 1)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not any("mimix_core.engine.worker" in words for words in marked(mark).values()):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    assert any("uvicorn" in words for words in marked(mark).values())
    yield run, mark


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_ends_at_once_with_all_its_processes(
    tmp_path: Path, how: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM reach the complete process group, including Prefect's server."""
    with _working_run(tmp_path) as (run, mark):
        began = time.monotonic()
        if how is signal.SIGKILL:
            run.kill()
        else:
            os.killpg(run.pid, how)
        printed = _end(run, mark, began)
    assert "Traceback" not in printed
    if how is not signal.SIGKILL:
        assert run.returncode == 128 + how
        assert "the same command continues from here" in printed


def test_a_run_whose_temporary_server_is_killed_ends_at_once(tmp_path: Path) -> None:
    """Prefect would retry each event of the run for seconds, and the run would seem to hang."""
    with _working_run(tmp_path) as (run, mark):
        (server,) = [pid for pid, words in marked(mark).items() if "uvicorn" in words]
        began = time.monotonic()
        os.kill(server, signal.SIGKILL)
        printed = _end(run, mark, began)
    assert run.returncode == 1
    assert "the temporary Prefect server of this run has ended (-9)" in " ".join(printed.split())
    assert "the same command continues from here" in " ".join(printed.split())


def _end(run: subprocess.Popen[str], mark: str, began: float) -> str:
    """Wait until no process of a run is left; return what it printed."""
    printed, _ = run.communicate(timeout=60)
    while marked(mark) and time.monotonic() - began < 60:
        time.sleep(0.1)
    assert not marked(mark)
    assert time.monotonic() - began < 10
    return printed
