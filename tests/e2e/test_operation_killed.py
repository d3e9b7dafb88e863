"""SIGKILL of a worker and its processes: detected within two minutes, its run started again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from mimix_core.settings import load_config
from tests.deployments.project_factory import write_project
from tests.deployments.site import MIMIX_WORKER, rows, site

pytestmark = pytest.mark.drill


def test_a_killed_worker_is_detected_and_its_run_started_again(tmp_path: Path) -> None:
    settings = write_project(tmp_path / "project")
    config = load_config(settings)
    with site(tmp_path / "site") as server:
        server.deploy(settings)
        doomed = server.worker("doomed", "--limit", "1")
        run = server.start("curate")
        deadline = time.monotonic() + 240
        while not rows(config, "scenes"):
            assert time.monotonic() < deadline, server.logs()
            time.sleep(0.5)
        doomed.process.kill()
        for pid in doomed.descendants():
            os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        heir = server.worker("heir", "--limit", "1", command=MIMIX_WORKER)
        server.wait_for(run, "CRASHED", "SCHEDULED", "PENDING", seconds=150)
        assert time.monotonic() - killed < 120
        while server.state(run) == "CRASHED":  # for a moment
            assert time.monotonic() - killed < 180
            time.sleep(0.2)
        server.wait_for(run, "COMPLETED", seconds=400)
        assert heir.took() == 1
    assert len(rows(config, "captions")) == 3
