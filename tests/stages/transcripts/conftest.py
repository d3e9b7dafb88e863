"""A video without audio for tests of transcripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media_factory import Shot, write_video


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video without sound and without subtitles."""
    return write_video(tmp_path_factory.mktemp("silent") / "silent.mp4", [Shot(24)]).path
