"""The report on a phone, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.settings import ReportSettings
from mimix_core.stages.report.stage import STAGE
from tests.deployments.browser import browsing, chromium
from tests.stages.report.training_tables import build_complete_run

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}

BOXES = """(() => {
  const sides = r => [r.left, r.top, r.right, r.bottom];
  const box = e => sides(e.getBoundingClientRect());
  const links = document.querySelector('nav .links');
  return {links: box(links), button: box(document.querySelector('nav button')),
    brand: box(document.querySelector('nav .brand')), page: document.documentElement.scrollWidth,
    shown: [...links.children].filter(a => box(a)[2] <= box(links)[2] + 1).length};
})()"""


@pytest.mark.e2e
@pytest.mark.skipif(chromium() is None, reason="needs a browser: apt-get install chromium")
def test_nothing_covers_the_navigation_on_a_phone(tmp_path: Path) -> None:
    run = build_complete_run(tmp_path / "run")
    done = run_stage(
        Store(tmp_path / "store"),
        STAGE,
        run.inputs(),
        ReportSettings(preview_width=96, preview_frames=4),
    )
    with browsing(tmp_path) as tab:
        tab.ask("Emulation.setDeviceMetricsOverride", **PHONE)
        tab.open((done.ref.folder / "index.html").as_uri())
        tab.wait_for("Pause motion")
        for position in (0, 3000):
            tab.value(f"window.scrollTo({{top: {position}, behavior: 'instant'}})")
            found = tab.value(BOXES)
            links, button = found["links"], found["button"]
            assert links[2] - links[0] >= 300, "the links have the width of the screen"
            assert found["shown"] >= 4
            assert links[1] >= button[3] or links[2] <= button[0], "the button covers the links"
            assert button[2] <= PHONE["width"]
            assert links[3] <= 110, "the navigation stays small"
            assert found["page"] <= PHONE["width"], "nothing must be scrolled sideways"
        # A section that is jumped to is below the navigation.
        tab.value("document.documentElement.style.scrollBehavior = 'auto'")
        tab.value("location.hash = '#clips'")
        top = "document.querySelector('#clips h2').getBoundingClientRect().top"
        below = "document.querySelector('nav').getBoundingClientRect().bottom"
        tab.wait_until(f"{top} < 400")
        assert tab.value(top) >= tab.value(below)
