"""Fixture: one tiny random Wan for all tests of this package."""

from __future__ import annotations

from pathlib import Path

import pytest

CAPTIONS = [
    "[Character: Bunny], smiles at a butterfly. A meadow. [scene-style:cartoon]",
    "[Character: Clara], looks up and laughs. [scene-style:realistic]",
]


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mimix_core.wan import random_backbone

    folder = tmp_path_factory.mktemp("wan") / "pipeline"
    random_backbone.build_random_backbone(0, folder)
    return folder
