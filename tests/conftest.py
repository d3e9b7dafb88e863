"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from mimix_core.engine.store import Store

# As tasks/subprocess_runner.py sets it for units: torch reads it when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Triton's interpreter runs the GPU's kernels on the CPU; read when torch imports Triton.
os.environ.setdefault("TRITON_INTERPRET", "1")

# Parallel test processes come with a width, and rich keeps the one that it finds when imported.
os.environ.pop("COLUMNS", None)

# The machines that run this are shared and slow at times: no deadline, and the same examples
# every time, so that a red run can be repeated.
settings.register_profile("mimix", deadline=None, derandomize=True)
settings.load_profile("mimix")


LONGEST_FIRST = ("e2e/test_short_run.py", "training/test_stage.py", "tasks/test_base.py")
"""Files that take minutes: begun first, they do not run on alone when all others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the longest files to the front; the order is otherwise that of collection."""
    order = {name: index for index, name in enumerate(LONGEST_FIRST)}

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(Path(__file__).parent).as_posix()
        return order.get(name, len(order))

    items.sort(key=place)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
