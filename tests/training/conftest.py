"""Fixture: one tiny random Wan for all tests of this package."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# DeepSpeed takes a GPU when it sees one, and asks when it is imported.
os.environ.setdefault("DS_ACCELERATOR", "cpu")


@pytest.fixture(scope="session")
def transformer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mimix_core.wan import random_backbone

    folder = tmp_path_factory.mktemp("lora") / "pipeline"
    random_backbone.build_random_backbone(0, folder)
    return folder / "transformer"
