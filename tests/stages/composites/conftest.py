"""Footage of two shows for tests of composites."""

from __future__ import annotations

import pytest

from tests.stages.composites.composites_runner import SourceTables


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> SourceTables:
    return SourceTables(tmp_path_factory.mktemp("footage"))
