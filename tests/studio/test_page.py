"""The studio in a real browser: every decision by mouse and by keyboard, on a desk and a phone."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mimix_core.project.item_decisions import DecisionAction, ItemDecision, ItemKind
from tests.deployments.browser import browsing, chromium
from tests.studio.page_hand import DESKTOP, PHONE, Hand
from tests.studio.studio_project import (
    StudioProject,
    address_of,
    build_project,
    serve,
    start_server,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(chromium() is None, reason="needs a browser: apt-get install chromium"),
]

HOSTILE = (
    "[Character: Rinky], <img src=x onerror=document.title=7><script>document.title=7</script> "
    "\"' javascript:alert(1) {{7*7}} ${7*7} \u202e evil. [scene-style:cartoon]"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StudioProject:
    return build_project(tmp_path_factory.mktemp("studio"), hostile=HOSTILE)


@pytest.fixture(scope="module")
def address(project: StudioProject) -> Iterator[str]:
    with serve(project) as found:
        yield found


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    with browsing(tmp_path_factory.mktemp("browser")) as tab:
        yield Hand(tab)


def actions_on(project: StudioProject, item: str) -> list[tuple[str, str]]:
    return [(one.action.value, one.reason) for one in project.decided() if one.item == item]


def wait_for(project: StudioProject, item: str, expected: list[tuple[str, str]]) -> None:
    deadline = time.monotonic() + 10
    while actions_on(project, item) != expected:
        assert time.monotonic() < deadline, (actions_on(project, item), expected)
        time.sleep(0.03)


@pytest.mark.parametrize("kind", ["clip", "cutout", "composite"])
def test_every_decision_by_keyboard(
    project: StudioProject, address: str, hand: Hand, kind: str
) -> None:
    hand.size(DESKTOP)
    hand.open(f"{address}?kind={kind}&status=ok")
    hand.until("document.querySelector('.cell .text')")
    hand.press("Enter")
    hand.until("document.querySelector('#viewer:not([hidden]) .panel .facts')")
    first = hand.opened()
    hand.press("a")
    hand.until(f"new URLSearchParams(location.search).get('item') !== {first!r}")
    second = hand.opened()
    wait_for(project, first, [("approve", "")])
    hand.press("r")
    hand.until("document.querySelector('dialog.ask')")
    hand.press("2")
    reasons = {
        "clip": "A cut or dissolve inside",
        "cutout": "Parts are missing",
        "composite": "Wrong size",
    }
    wait_for(project, second, [("reject", reasons[kind])])
    hand.press("u")
    wait_for(project, second, [("reject", reasons[kind]), ("undo", "")])
    hand.until(f"new URLSearchParams(location.search).get('item') === {second!r}")
    hand.press("k")
    hand.until(f"new URLSearchParams(location.search).get('item') === {first!r}")
    if kind != "cutout":
        hand.press("e")
        hand.until("document.activeElement.matches('textarea')")
        hand.tab.value("document.activeElement.value = ''")
        hand.write("[Ann" if kind == "composite" else "[Rin")
        hand.until("document.querySelector('.offers:not([hidden]) button')")
        hand.press("Enter")
        hand.write("waves. [scene-style:cartoon]")
        hand.until("document.querySelector('.editor .approve:not(:disabled)')")
        hand.press("Enter", modifiers=2)
        wait_for(project, first, [("approve", ""), ("edit", "")])
        [edit] = [o for o in project.decided() if o.item == first and o.caption]
        assert edit.caption.endswith("], waves. [scene-style:cartoon]")
        hand.until("!document.querySelector('.editor')")
    hand.press("Escape")
    hand.until("document.querySelector('#viewer').hidden")


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("kind", ["clip", "cutout", "composite"])
def test_every_decision_by_mouse(
    project: StudioProject, address: str, hand: Hand, kind: str, device: dict[str, Any]
) -> None:
    hand.size(device)
    hand.open(f"{address}?kind={kind}&status=ok")
    hand.click(".cell:last-of-type .thumb")
    hand.until("document.querySelector('#viewer:not([hidden]) .panel .facts')")
    item = hand.opened()
    before = actions_on(project, item)
    hand.click(".actions .approve")
    wait_for(project, item, [*before, ("approve", "")])
    hand.click(".actions .undo")
    wait_for(project, item, [*before, ("approve", ""), ("undo", "")])
    hand.until(f"new URLSearchParams(location.search).get('item') === {item!r}")
    hand.click(".actions .reject")
    hand.click("dialog.ask .reasons button:nth-child(4)")
    hand.until("!document.querySelector('dialog.ask')")
    deadline = time.monotonic() + 10
    while len(actions_on(project, item)) != len(before) + 3:
        assert time.monotonic() < deadline
        time.sleep(0.03)
    assert actions_on(project, item)[-1][0] == "reject"
    width = hand.tab.value("document.documentElement.scrollWidth")
    assert width <= device["width"], "nothing must be scrolled sideways"


def test_a_selection_is_decided_at_once(project: StudioProject, address: str, hand: Hand) -> None:
    hand.size(DESKTOP)
    hand.open(f"{address}?kind=clip")
    hand.until("document.querySelectorAll('.cell .text').length > 4")
    before = len(project.decided())
    hand.press("x")
    hand.click("#cell-3 .thumb", modifiers=8)
    hand.until("document.querySelectorAll('.cell[aria-selected=true]').length === 4")
    hand.press("a")
    hand.until("document.querySelectorAll('.cell[aria-selected=true]').length === 0")
    made = project.decided()[before:]
    assert len(made) == 4
    assert len({one.batch for one in made}) == 1
    hand.press("u")
    deadline = time.monotonic() + 10
    while len(project.decided()) != before + 8:
        assert time.monotonic() < deadline
        time.sleep(0.03)


LATE_FRAME = """(() => {
  const video = document.querySelector('.stage video');
  Object.defineProperty(video, 'currentTime', { get: () => 1.5 / 16, configurable: true });
  video.dispatchEvent(new Event('seeked'));
  delete video.currentTime;
})()"""


def test_frames_are_stepped_exactly(address: str, hand: Hand) -> None:
    hand.size(DESKTOP)
    hand.open(f"{address}?kind=clip&status=ok")
    hand.until("document.querySelector('.cell .text')")
    hand.press("Enter")
    hand.until("document.querySelector('.stage video')?.readyState >= 2")
    hand.press("Home")
    for frame in range(1, 6):
        hand.press("ArrowRight")
        hand.until(
            f"document.querySelector('.frame-text').textContent.startsWith('{frame + 1} / 81')"
        )
        shown = hand.tab.value("document.querySelector('.stage video').currentTime")
        assert int(shown * 16) == frame
    hand.press("ArrowLeft")
    hand.until("document.querySelector('.frame-text').textContent.startsWith('5 / 81')")
    # A slow browser reports frame 2 only now: the next step goes on from 5 all the same.
    hand.tab.value(LATE_FRAME)
    hand.press("ArrowRight")
    hand.until("document.querySelector('.frame-text').textContent.startsWith('6 / 81')")
    hand.press("Escape")


def test_hostile_text_is_text(address: str, hand: Hand) -> None:
    hand.size(DESKTOP)
    hand.open(f"{address}?kind=clip&q=javascript")
    hand.until("document.querySelector('.cell .text')")
    hand.press("Enter")
    hand.until("document.querySelector('#viewer .panel .facts')")
    shown = hand.tab.value("document.querySelector('#viewer .panel').textContent")
    assert "<img src=x onerror=document.title=7><script>" in shown
    assert hand.tab.value("document.querySelectorAll('#viewer img, #viewer script').length") == 0
    assert "MiMix Studio" in hand.tab.value("document.title")
    hand.press("Escape")


def test_what_another_person_decides_appears(
    project: StudioProject, address: str, hand: Hand
) -> None:
    hand.size(DESKTOP)
    hand.open(f"{address}?kind=clip&status=rejected")
    hand.until("document.querySelector('.cell .text')")
    name = project.session().index.ids(list(range(21)))[-1]
    session = project.session("ben")
    session.decide(
        [ItemDecision(reviewer="ben", kind=ItemKind.CLIP, item=name, action=DecisionAction.REJECT)],
        [""],
    )
    hand.until("document.querySelector('.mark.reject')")


@pytest.mark.drill
def test_five_hundred_decisions_outlive_twenty_kills(tmp_path: Path, hand: Hand) -> None:
    """Decide by keyboard while the server is killed and started again."""
    project = build_project(tmp_path)
    server = start_server(project)
    address = address_of(server)
    port = address.rstrip("/").rpartition(":")[2]
    hand.size(DESKTOP)
    hand.open(f"{address}?kind=clip")
    hand.until("document.querySelector('.cell .text')")
    hand.press("Enter")
    hand.until("document.querySelector('#viewer:not([hidden]) .facts')")
    # Count what the page was answered, and the time it took.
    hand.tab.value(
        "window.saved = []; window.failed = 0; const before = window.fetch;"
        "window.fetch = async (url, options) => { const start = performance.now(); try {"
        "const reply = await before(url, options);"
        "if (String(url).endsWith('/api/decisions')) { const found = await reply.clone().json();"
        "window.saved.push([found.ids[0], performance.now() - start]); } return reply;"
        "} catch (error) { if (String(url).endsWith('/api/decisions')) window.failed += 1;"
        "throw error; } }"
    )
    presses = kills = saved = 0
    try:
        while saved < 500:
            answers = hand.tab.value("window.saved.length + window.failed")
            hand.press("a")
            presses += 1
            if presses % 25 == 0 and kills < 20:
                # With a request under way, or just answered.
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
                kills += 1
                server = start_server(project, port)
                address_of(server)
            hand.until(f"window.saved.length + window.failed > {answers}")
            saved = hand.tab.value("window.saved.length")
            if presses % 20 == 0:
                hand.press("Escape")
                hand.until("document.querySelector('#viewer').hidden")
                hand.press("Home")
                hand.press("Enter")
                hand.until("!document.querySelector('#viewer').hidden")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert kills == 20
    answered = hand.tab.value("window.saved")
    there = {one.decision_id for one in project.decided()}
    assert {name for name, _ in answered} <= there, "saved means saved"
    print(f"median {statistics.median(ms for _, ms in answered):.1f} ms a decision")
