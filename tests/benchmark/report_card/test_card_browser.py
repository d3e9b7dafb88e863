"""The report card in a real browser: from a cell to its videos and clips, on a desk and a phone."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from mimix_core.benchmark.report_card.card_page import write_report_card
from tests.benchmark.report_card.factories import PROMPTS, SCORES, card_inputs
from tests.deployments.browser import browsing, chromium
from tests.studio.page_hand import DESKTOP, PHONE, Hand

axe_core = pytest.importorskip("axe_core_python", reason="needs pip install 'mimix[dev]'")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(chromium() is None, reason="needs a browser: apt-get install chromium"),
]

OPEN = "document.querySelector('#player').open"
PLAYER = "document.querySelector('#player video')"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    inputs = card_inputs(folder / "in", PROMPTS, SCORES)
    inputs.videos["p3"].write_bytes(b"no video")
    return write_report_card(replace(inputs, system="ours"), folder / "card").page


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    with browsing(tmp_path_factory.mktemp("browser"), webgl=False) as tab:
        yield Hand(tab)


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def opened(request: pytest.FixtureRequest, hand: Hand, page: Path) -> Hand:
    """The page, freshly loaded, on each device."""
    hand.size(request.param)
    # A press of the mouse needs to know where an element is: not while the page still scrolls.
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    hand.tab.ask("Emulation.setEmulatedMedia", media="", features=[still])
    hand.tab.open("about:blank")
    hand.tab.open(page.as_uri())
    hand.until("document.readyState == 'complete' && document.querySelector('#player')")
    return hand


def test_a_cell_leads_to_its_videos_and_a_picture_plays_its_clip(opened: Hand) -> None:
    opened.click("a[href='#tom-mary-cartoon']")
    opened.until("document.querySelector('#tom-mary-cartoon').getBoundingClientRect().top < 200")
    opened.click("#tom-mary-cartoon .samples .play-clip[href^='training/running.mp4']")
    opened.until(f"{OPEN} && {PLAYER}.currentTime > 0 && !{PLAYER}.error")
    text = opened.tab.value("document.querySelector('#player .about').textContent")
    assert "Nearest training frame to Tom’s figure" in text
    opened.press("Escape")
    opened.until(f"!{OPEN} && !{PLAYER}.hasAttribute('src')")
    focused = opened.tab.value("document.activeElement.getAttribute('href')")
    assert focused == "training/running.mp4#t=0.250"


def test_a_video_that_cannot_be_played_says_so(opened: Hand) -> None:
    opened.click("#tom-mary-cartoon a[href='videos/p3.mp4']")
    opened.until(f"{OPEN} && {PLAYER}.hidden")
    assert "cannot be played here" in opened.tab.text()


def test_the_page_has_no_serious_fault_of_accessibility(opened: Hand) -> None:
    script = resources.files("axe_core_python").joinpath("axe.min.js").read_text()
    opened.tab.value(f"{script}; true")
    opened.tab.value(
        "window.found = null; axe.run(document).then((all) => { window.found = all; })"
    )
    opened.until("window.found")
    violations = json.loads(opened.tab.value("JSON.stringify(window.found.violations)"))
    faults = [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in violations
        if one["impact"] in ("serious", "critical")
    ]
    assert faults == []


def test_nothing_is_wider_than_the_screen(opened: Hand) -> None:
    width = opened.tab.value("document.documentElement.clientWidth")
    assert opened.tab.value("document.documentElement.scrollWidth") <= width
    # Rows of the table are read as a whole, without scrolling sideways.
    inner, outer = opened.tab.value(
        "(() => { const box = document.querySelector('#pairs .scroll');"
        " return [box.scrollWidth, box.clientWidth]; })()"
    )
    assert inner <= outer


def test_the_page_prints_its_table_and_charts_without_videos(opened: Hand) -> None:
    opened.tab.ask("Emulation.setEmulatedMedia", media="print")
    try:
        shown = "(s) => document.querySelector(s).getClientRects().length > 0"
        assert opened.tab.value(
            f"['.pairs', '.looks', '.shares'].every({shown}) && !({shown})('#behind')"
        )
    finally:
        opened.tab.ask("Emulation.setEmulatedMedia", media="")
    printed = base64.b64decode(opened.tab.ask("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF")
