"""axe-core finds no serious fault on any view of the studio, on a desk and on a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.deployments.browser import browsing, chromium
from tests.studio.comparison_factory import system_wall, write_comparison, write_training_run
from tests.studio.page_hand import DESKTOP, PHONE, Hand
from tests.studio.rating_factory import serve_rating
from tests.studio.studio_project import StudioProject, build_project, serve

axe_core = pytest.importorskip("axe_core_python", reason="needs pip install 'mimix[dev]'")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(chromium() is None, reason="needs a browser: apt-get install chromium"),
]

SERIOUS = {"serious", "critical"}
OPENED = "document.querySelector('#viewer:not([hidden]) .panel .facts')"
VIEWS: dict[str, tuple[str, list[str], str]] = {
    "grid": ("clip", [], "document.querySelector('.cell .text')"),
    "clip": ("clip", ["Enter"], OPENED),
    "editor": ("clip", ["Enter", "e"], "document.activeElement.matches('.editor textarea')"),
    "crop": ("clip", ["Enter", "m"], "document.activeElement.matches('.mover:not(:disabled)')"),
    "reasons": ("clip", ["Enter", "r"], "document.querySelector('dialog.ask')"),
    "help": ("clip", ["?"], "document.querySelector('dialog .keys')"),
    "mask": ("cutout", ["Enter"], OPENED),
    "composite": ("composite", ["Enter"], OPENED),
    "tracks": ("track", [], "document.querySelector('.cell .text')"),
    "track": ("track", ["Enter"], "document.querySelector('.name-box')"),
    "scene": ("scene", ["Enter"], OPENED),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StudioProject:
    found = build_project(tmp_path_factory.mktemp("studio"), tracks=True)
    prompts = {f"p{number}": f"[Character: Rinky], digs hole {number}." for number in range(3)}
    wall = system_wall(found.folder / "videos", ("ours", "base"), prompts, missing="p1")
    write_comparison(found.comparison, wall)
    write_training_run(found.workspace, (0, 10), ["[Character: Rinky], waves."])
    return found


@pytest.fixture(scope="module")
def address(project: StudioProject) -> Iterator[str]:
    with serve(project) as found:
        yield found


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    with browsing(tmp_path_factory.mktemp("browser")) as tab:
        yield Hand(tab)


def faults(hand: Hand) -> list[dict[str, Any]]:
    """The serious faults that axe-core finds on the page as it is."""
    script = resources.files("axe_core_python").joinpath("axe.min.js").read_text()
    hand.tab.value(f"{script}; true")
    hand.tab.value("window.found = null; axe.run(document).then((all) => { window.found = all; })")
    hand.until("window.found")
    violations = json.loads(hand.tab.value("JSON.stringify(window.found.violations)"))
    return [
        {"rule": one["id"], "nodes": [node["html"][:200] for node in one["nodes"]]}
        for one in violations
        if one["impact"] in SERIOUS
    ]


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("view", VIEWS)
def test_no_serious_fault(address: str, hand: Hand, view: str, device: dict[str, Any]) -> None:
    kind, keys, ready = VIEWS[view]
    hand.size(device)
    hand.open(f"{address}?kind={kind}")
    hand.until("document.querySelector('.cell .text')")
    for key in keys:
        hand.press(key)
        if key == "Enter":
            hand.until("document.querySelector('#viewer:not([hidden]) .panel .facts')")
    hand.until(ready)
    assert faults(hand) == []


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_serious_fault_where_videos_are_compared(
    address: str, hand: Hand, device: dict[str, Any]
) -> None:
    hand.size(device)
    hand.open(f"{address}compare?wall=systems")
    hand.until("document.querySelector('.wall-cell video')?.readyState >= 2")
    assert faults(hand) == []
    hand.press("Enter")
    hand.until("document.querySelector('.big-stage video.here')?.readyState >= 2")
    assert faults(hand) == []


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_serious_fault_where_runs_are_shown(
    address: str, hand: Hand, device: dict[str, Any]
) -> None:
    hand.size(device)
    hand.open(f"{address}live")
    hand.until("document.querySelector('.preview video')")
    assert faults(hand) == []


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_serious_fault_where_people_rate(
    hand: Hand, tmp_path: Path, device: dict[str, Any]
) -> None:
    with serve_rating(tmp_path) as address:
        hand.size(device)
        hand.open(address)
        hand.until("document.activeElement.id === 'rater'")
        assert faults(hand) == []
        hand.write("anna")
        hand.click(".welcome button")
        hand.until("document.querySelector('.choices button:not(:disabled)')")
        assert faults(hand) == []


def test_a_serious_fault_is_found(address: str, hand: Hand) -> None:
    hand.size(DESKTOP)
    hand.open(f"{address}?kind=clip")
    hand.tab.value(
        "document.querySelector('#main').append(document.createElement('button'),"
        " document.createElement('img')); true"
    )
    assert {one["rule"] for one in faults(hand)} >= {"button-name", "image-alt"}
