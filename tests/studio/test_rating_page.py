"""The page on which people rate, in a real browser: by keys, mouse and finger."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mimix_core.project.pair_ratings import PairRating, read_pair_ratings
from tests.deployments.browser import browsing, chromium
from tests.studio.page_hand import DESKTOP, PHONE, Hand
from tests.studio.rating_factory import ASPECTS, HOSTILE, SECRETS, serve_rating

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(chromium() is None, reason="needs a browser: apt-get install chromium"),
]

READY = "document.querySelector('.choices button:not(:disabled)')"


def saved(path: Path, count: int) -> list[PairRating]:
    deadline = time.monotonic() + 20
    while len(found := read_pair_ratings([path])) != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return sorted(found, key=lambda one: one.rated_at)


def test_a_person_rates_by_keys_goes_back_and_resumes(tmp_path: Path) -> None:
    ratings = tmp_path / "ratings.jsonl"
    with serve_rating(tmp_path) as address, browsing(tmp_path) as tab:
        hand = Hand(tab)
        hand.size(DESKTOP)
        hand.open(address)
        hand.until("document.activeElement.id === 'rater'")
        hand.write("anna <b>")
        hand.click(".welcome button")
        hand.until(READY)
        time.sleep(0.2)  # The page measures the time in tenths of a second.
        for key in ("ArrowLeft", "ArrowDown", "ArrowRight", "ArrowLeft"):
            hand.press(key)
        [first] = saved(ratings, 1)
        assert first.rater == "anna <b>"
        assert tuple(first.answers[name] for name in ASPECTS) == ("left", "tie", "right", "left")
        assert 0 < first.seconds < 600
        hand.until("document.querySelector('#bar .count').textContent.startsWith('1 of ')")
        hand.until(READY)
        # The pair before, once more.
        hand.press("u")
        hand.until("document.querySelector('#bar .back').disabled")
        hand.until(READY)
        for _ in ASPECTS:
            hand.press("ArrowRight")
        deadline = time.monotonic() + 20
        while set(read_pair_ratings([ratings])[0].answers.values()) != {"right"}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        hand.open(address)
        hand.until(READY)
        assert hand.tab.value("document.querySelector('#bar .count').textContent").startswith(
            "1 of"
        )
        everything = hand.tab.value("document.documentElement.outerHTML")
        names = hand.tab.value("performance.getEntriesByType('resource').map((one) => one.name)")
        for secret in (*SECRETS, ".mp4", "noise", str(tmp_path)):
            assert secret not in everything + str(names)


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_person_rates_all_pairs_by_mouse_and_hostile_text_is_text(
    tmp_path: Path, device: dict[str, object]
) -> None:
    with serve_rating(tmp_path, prompts=3) as address, browsing(tmp_path) as tab:
        hand = Hand(tab)
        hand.size(device)
        hand.open(address)
        hand.write("ben")
        hand.click(".welcome button")
        hand.until(READY)
        total = int(hand.tab.value("document.querySelector('progress').max"))
        texts = ""
        for count in range(1, total + 1):
            hand.until(READY)
            texts += hand.tab.text()
            assert hand.tab.value("document.documentElement.scrollWidth") <= device["width"]
            for name in ASPECTS:
                hand.click(f"[data-aspect={name}] [data-value=right]")
            saved(tmp_path / "ratings.jsonl", count)
            hand.until(f"document.querySelector('progress').value === {count}")
        hand.until("document.body.textContent.includes('All pairs are rated')")
        assert HOSTILE in texts
        assert hand.tab.value("document.title").startswith("Which is better?")
