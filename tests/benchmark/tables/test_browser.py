"""The page of a comparison in a real browser: playback, and unplayable videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.benchmark.comparison.comparison_page import write_comparison
from mimix_core.benchmark.tables.load_results import load_results
from tests.benchmark.tables import factories
from tests.benchmark.tables.factories import PROMPTS
from tests.deployments.browser import browsing, chromium
from tests.media_factory import Shot, write_video


@pytest.mark.e2e
@pytest.mark.skipif(chromium() is None, reason="needs a browser: apt-get install chromium")
def test_videos_play_in_sync_and_a_broken_one_shows_a_note(tmp_path: Path) -> None:
    systems = [factories.system(tmp_path / "in", name, ["p1"]) for name in "abc"]
    for system, frames in zip(systems, (16, 32), strict=False):
        write_video(system.folder / "p1.mp4", [Shot(frames)])
    page = write_comparison(
        load_results(PROMPTS, systems, {}, [], [], None), systems, (), tmp_path / "out"
    )
    with browsing(tmp_path) as tab:
        tab.open(page.as_uri())
        tab.wait_for("Play")
        tab.value("document.querySelector('.play-all').scrollIntoView()")
        tab.value("document.querySelector('.play-all').click()")
        assert tab.wait_for("cannot be played here", "Pause").count("cannot be played here") == 1
        moving = "[...document.querySelectorAll('video')].filter(v => v.currentTime > 0).length"
        tab.wait_until(f"{moving} == 2")
