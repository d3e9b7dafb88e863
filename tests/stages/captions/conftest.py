"""A provider on loopback for tests of captioning."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vlm.standin import KEY, KEY_NAME, StandIn, standing_in


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A separate provider for each test; the key is in the environment."""
    monkeypatch.setenv(KEY_NAME, KEY)
    with standing_in() as server:
        server.control(key=KEY, keep_bodies=True)
        yield server
