"""``mimix curate`` from the shell, interrupted by a signal: no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deployments.project_factory import write_project
from tests.deployments.site import marked
from tests.e2e.demo import ROOT

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_ends_at_once_with_all_its_processes(
    tmp_path: Path, how: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM reach the complete process group, including Prefect's server."""
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
    began = time.monotonic()
    if how is signal.SIGKILL:
        run.kill()
    else:
        os.killpg(run.pid, how)
    printed, _ = run.communicate(timeout=60)
    while marked(mark) and time.monotonic() - began < 60:
        time.sleep(0.1)
    assert not marked(mark)
    assert time.monotonic() - began < 10
    assert "Traceback" not in printed
    if how is not signal.SIGKILL:
        assert run.returncode == 128 + how
        assert "the same command continues from here" in printed
