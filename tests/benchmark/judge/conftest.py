from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.vlm.fake_provider import KEY, KEY_NAME, ROOT, FakeProvider


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    """Start a fake judge for one test; its API key is in the environment."""
    monkeypatch.setenv(KEY_NAME, KEY)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmark.judge.fake_judge"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            found = FakeProvider(f"http://127.0.0.1:{int(process.stdout.readline())}")
            found.control(key=KEY)
            yield found
        finally:
            process.stdin.close()
