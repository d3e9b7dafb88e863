"""A folder in which the clips stage is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages.clips.clips_runner import ClipsRunner


@pytest.fixture
def runner(tmp_path: Path) -> ClipsRunner:
    return ClipsRunner(tmp_path)
