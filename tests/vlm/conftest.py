from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vlm.fake_provider import KEY, KEY_NAME, FakeProvider, run_fake_provider


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    """Run a fake provider for each test, with its key in the environment."""
    monkeypatch.setenv(KEY_NAME, KEY)
    with run_fake_provider() as server:
        server.control(key=KEY)
        yield server
