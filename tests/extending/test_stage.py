"""docs/extending/stage.md, followed literally."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extending.pages import follow


@pytest.mark.e2e
def test_the_page_gives_a_working_stage(tmp_path: Path) -> None:
    printed = follow("stage", tmp_path)
    assert "scenes" in printed
    results = list((tmp_path / "workspace" / "store" / "my_stages.brightness").glob("*/stage.json"))
    assert len(results) == 1
