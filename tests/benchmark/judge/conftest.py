from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.vlm.standin import KEY, KEY_NAME, ROOT, StandIn


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A judge of its own for each test; the key is in the environment."""
    monkeypatch.setenv(KEY_NAME, KEY)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmark.judge.seer"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            found = StandIn(f"http://127.0.0.1:{int(process.stdout.readline())}")
            found.control(key=KEY)
            yield found
        finally:
            process.stdin.close()
