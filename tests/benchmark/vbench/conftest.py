"""The made-up weights, written once a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmark.vbench import made


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.cache_folder(tmp_path_factory.mktemp("vbench"))
