"""The wall of videos in a real browser: in step, by keys in both directions, and lazily loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployments.browser import browsing, chromium
from tests.studio.comparison_factory import (
    append_checkpoint,
    system_wall,
    write_comparison,
    write_training_run,
)
from tests.studio.page_hand import DESKTOP, PHONE, Hand
from tests.studio.studio_project import StudioProject, build_project, serve

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(chromium() is None, reason="needs a browser: apt-get install chromium"),
]

HOSTILE = "<img src=x onerror=document.title=7><script>document.title=7</script>"
PROMPTS = {f"p{number:02}": f"[Character: Rinky], digs hole {number}." for number in range(50)} | {
    "p03": HOSTILE
}
SYSTEMS = ("ours", "base", HOSTILE, "step 500", "step 900")
FRAME = "Math.floor(video.currentTime * 16 + 0.02)"
VISIBLE = "[...document.querySelectorAll('.wall-cell video')]"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StudioProject:
    found = build_project(tmp_path_factory.mktemp("studio"))
    wall = system_wall(found.folder / "videos", SYSTEMS, PROMPTS, missing="p01")
    write_comparison(found.comparison, wall)
    write_training_run(found.workspace, (0, 10), ["[Character: Rinky], waves.", HOSTILE])
    return found


@pytest.fixture(scope="module")
def address(project: StudioProject) -> Iterator[str]:
    with serve(project) as found:
        yield found


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    with browsing(tmp_path_factory.mktemp("browser")) as tab:
        yield Hand(tab)


def frames_shown(hand: Hand) -> list[int]:
    return list(hand.tab.value(f"{VISIBLE}.map((video) => {FRAME})"))


def test_five_checkpoints_by_fifty_prompts_load_only_what_is_seen(address: str, hand: Hand) -> None:
    hand.size(DESKTOP)
    hand.open(f"{address}compare?wall=systems")
    assert hand.tab.value("document.querySelectorAll('.wall-cell').length") == 250
    hand.until(f"{VISIBLE}.length >= 8 && {VISIBLE}.every((video) => video.readyState >= 2)")
    loaded = hand.tab.value("document.querySelectorAll('.wall-cell video').length")
    assert loaded < 60, "only what is near the screen"
    hand.tab.value("document.querySelector('#wall-scroller').scrollTop = 1e6")
    hand.until("document.querySelector('#cell-49-0 video')?.readyState >= 2")
    hand.until("!document.querySelector('#cell-0-0 video')")


def test_all_cells_step_together_and_play_in_step(address: str, hand: Hand) -> None:
    hand.size(DESKTOP)
    hand.open(f"{address}compare?wall=systems")
    hand.until(f"{VISIBLE}.length >= 8 && {VISIBLE}.every((video) => video.readyState >= 2)")
    for frame in range(1, 5):
        hand.press(".")
        hand.until(f"{VISIBLE}.every((video) => !video.seeking && {FRAME} === {frame})")
    hand.press(",")
    hand.until(f"{VISIBLE}.every((video) => !video.seeking && {FRAME} === 3)")
    hand.press(" ")
    hand.until(f"{VISIBLE}.every((video) => {FRAME} > 3)")
    hand.press(" ")
    hand.until(f"{VISIBLE}.every((video) => video.paused && !video.seeking)")
    assert len(set(frames_shown(hand))) == 1
    # What is scrolled in joins at the same frame.
    [frame] = set(frames_shown(hand))
    hand.tab.value("document.querySelector('#wall-scroller').scrollTop = 1e6")
    hand.until("document.querySelector('#cell-49-0 video')?.readyState >= 2")
    hand.until(f"{VISIBLE}.every((video) => !video.seeking && {FRAME} === {frame})")


def test_arrows_go_both_ways_in_the_wall_and_in_an_opened_video(address: str, hand: Hand) -> None:
    hand.size(DESKTOP)
    hand.open(f"{address}compare?wall=systems")
    hand.press("ArrowRight")
    hand.press("ArrowDown")
    hand.until("document.querySelector('#cell-1-1.focused')")
    hand.press(".")
    hand.press("Enter")
    here = "document.querySelector('.big-stage video.here')"
    hand.until(f"{here}?.readyState >= 2 && !{here}.seeking")
    assert "base" in hand.tab.value("document.querySelector('.big-title').textContent")
    hand.press("ArrowLeft")
    hand.until("document.querySelector('.big-title').textContent.startsWith('ours')")
    # It was beside the opened one already: the same frame, without loading.
    hand.until(f"Math.floor({here}.currentTime * 16) === 1")
    hand.press("ArrowDown")
    hand.press("Escape")
    hand.until("document.querySelector('#big').hidden")
    hand.until("document.querySelector('#cell-2-0.focused')")
    assert hand.tab.value("new URLSearchParams(location.search).get('row')") == "2"


def test_the_best_is_named_with_what_is_within_noise_of_it(address: str, hand: Hand) -> None:
    hand.size(DESKTOP)
    hand.open(f"{address}compare?wall=systems")
    text = hand.tab.value("document.querySelector('.verdict').textContent")
    assert text == (
        "step 900 is best by imaging quality · musiq: 54.0 (53.0 to 55.0). "
        "Within noise of it: step 500."
    )
    assert hand.tab.value("document.querySelectorAll('#ranking tr.worse').length") == 3
    assert "50.0" in hand.tab.value("document.querySelector('#cell-0-0 .scores').textContent")
    assert "no video" in hand.tab.value("document.querySelector('#cell-1-4').textContent")


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_hostile_names_are_text_and_nothing_moves_sideways(
    address: str, hand: Hand, device: dict[str, object]
) -> None:
    hand.size(device)
    hand.open(f"{address}compare?wall=systems")
    hand.click("#cell-0-1")
    hand.until("!document.querySelector('#big').hidden")
    hand.click("#big button[aria-label='Column to the right']")
    hand.until("document.querySelector('.big-title').textContent.startsWith('<img')")
    hand.click("#big button[aria-label='Back to the wall']")
    assert HOSTILE in hand.tab.value("document.body.textContent")
    assert hand.tab.value("document.querySelectorAll('img, main script').length") == 0
    assert hand.tab.value("document.title") == "Compare – MiMix Studio"
    assert hand.tab.value("document.documentElement.scrollWidth") <= device["width"]


def test_a_checkpoint_appears_while_a_training_runs(
    project: StudioProject, address: str, hand: Hand
) -> None:
    hand.size(DESKTOP)
    hand.open(f"{address}compare?wall=training-{'ab12' * 4}")
    assert "Step 10" in hand.tab.text()
    folder = next(Path(project.workspace).glob("checkpoints/*/journal"))
    append_checkpoint(folder, 20, ["[Character: Rinky], waves.", HOSTILE])
    hand.until("document.querySelector('.wall-head').textContent.includes('Step 20')")
