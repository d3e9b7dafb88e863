"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from mimix_core.engine.store import Store

# As tasks/subprocess_runner.py sets it for units: torch reads it when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Parallel test processes come with a width, and rich keeps the one that it finds when imported.
os.environ.pop("COLUMNS", None)

# The machines that run this are shared and slow at times: no deadline, and the same examples
# every time, so that a red run can be repeated.
settings.register_profile("mimix", deadline=None, derandomize=True)
settings.load_profile("mimix")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
