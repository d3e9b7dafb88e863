"""Run a unit in a process of its own, and kill it in the middle of its requests."""

from __future__ import annotations

import subprocess
import sys
import time

from mimix_core.engine.worker import UnitRequest
from tests.vlm.fake_provider import FakeProvider


def run_and_kill(request: UnitRequest, answers: float, server: FakeProvider) -> None:
    """Kill the unit after ``answers`` correct answers of the provider."""
    with subprocess.Popen(
        [sys.executable, "-m", "mimix_core.engine.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as unit:
        assert unit.stdin is not None
        unit.stdin.write(request.model_dump_json().encode() + b"\n")
        unit.stdin.flush()
        deadline = time.monotonic() + 300
        while sum(server.counts()["right"].values()) < answers:
            assert time.monotonic() < deadline
            assert unit.poll() is None
            time.sleep(0.05)
        unit.kill()
