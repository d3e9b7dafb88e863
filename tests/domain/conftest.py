"""A folder with the files that a library names."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "episodes").mkdir()
    for name in ("tom.png", "episodes/b.mp4", "episodes/a.mp4", "bean.mp4", "bean.srt"):
        (tmp_path / name).write_text(name)
    return tmp_path
