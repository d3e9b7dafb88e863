"""The random weights, written once per process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmark.vbench import weights_factory


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights_factory.write_weights_cache(tmp_path_factory.mktemp("vbench"))
