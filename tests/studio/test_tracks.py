"""Proposed tracks are named in the studio, by digit and by mouse, in the file of decisions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from mimix_core.project.item_decisions import DecisionAction, ItemDecision, ItemKind
from mimix_core.project.named_tracks import named_exemplars
from tests.deployments.browser import browsing, chromium
from tests.studio.page_hand import DESKTOP, PHONE, Hand
from tests.studio.studio_project import StudioProject, build_project, serve

SHIFT = 8
ROSTER = ["Rinky", "Bunny"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StudioProject:
    return build_project(tmp_path_factory.mktemp("studio"), tracks=True)


@pytest.fixture
def client(project: StudioProject) -> TestClient:
    project.decisions.unlink(missing_ok=True)
    return project.client()


def tracks(client: TestClient, **query: str) -> list[dict[str, Any]]:
    found = client.get("/api/items", params={"kind": "track", **query}).json()["items"]
    return [dict(one["item"]) for one in found]


def name(client: TestClient, item: dict[str, Any], character: str, **more: str) -> Any:
    one = {"kind": "track", "item": item["id"], "action": "name", "character": character, **more}
    return client.post("/api/decisions", json={"decisions": [one]})


def exemplars_of(project: StudioProject) -> dict[str, int]:
    found = named_exemplars(project.decisions, project.workspace, "meadow")
    return {character: len(paths) for character, paths in found.items()}


def test_a_name_makes_exemplars_and_is_withdrawn(
    client: TestClient, project: StudioProject
) -> None:
    first, second, *_ = tracks(client)
    assert name(client, first, "Bunny").status_code == 200
    assert name(client, second, "").status_code == 200
    assert exemplars_of(project) == {"Bunny": 3}
    assert [one["id"] for one in tracks(client, decision="named")] == [first["id"], second["id"]]
    assert len(tracks(client, decision="undecided")) == 2
    shown = client.get("/api/item", params={"kind": "track", "id": first["id"]}).json()
    assert shown["state"]["name"]["character"] == "Bunny"
    assert [one["reviewer"] for one in shown["history"]] == ["anna"]
    assert name(client, first, "Rinky").status_code == 200
    assert exemplars_of(project) == {"Rinky": 3}, "the last decision counts"
    client.post("/api/undo", json={"ids": [project.decided()[-1].decision_id]})
    assert exemplars_of(project) == {"Bunny": 3}


def test_only_the_cast_is_named_and_tracks_only_are(
    client: TestClient, project: StudioProject
) -> None:
    first = tracks(client)[0]
    stranger = name(client, first, "Zorro")
    assert (stranger.status_code, "no character 'Zorro'" in stranger.text) == (422, True)
    assert name(client, first, "", action="approve").status_code == 422
    clip = client.get("/api/items", params={"kind": "clip"}).json()["items"][0]["item"]
    assert name(client, clip, "Bunny", kind="clip").status_code == 422
    assert project.decided() == []


def test_only_pictures_of_proposals_are_served(client: TestClient, project: StudioProject) -> None:
    first = tracks(client)[0]
    where = {"kind": "track", "id": first["id"]}
    for role in ("frame", "crop-0", "crop-1", "crop-2"):
        reply = client.get(f"/media/{role}", params=where)
        assert (reply.status_code, reply.headers["content-type"][:6]) == (200, "image/"), role
    assert client.get("/media/crop-3", params=where).status_code == 404
    assert client.get("/media/masks", params=where).status_code == 404


@pytest.fixture(scope="module")
def address(project: StudioProject) -> Iterator[str]:
    with serve(project) as found:
        yield found


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    with browsing(tmp_path_factory.mktemp("browser")) as tab:
        yield Hand(tab)


needs_browser = pytest.mark.skipif(
    chromium() is None, reason="needs a browser: apt-get install chromium"
)


def wait_for(project: StudioProject, count: int) -> list[ItemDecision]:
    deadline = time.monotonic() + 10
    while len(project.decided()) < count:
        assert time.monotonic() < deadline, len(project.decided())
        time.sleep(0.03)
    return project.decided()


def opened_tracks(hand: Hand, address: str) -> None:
    hand.open(f"{address}?kind=track")
    hand.until("document.querySelectorAll('.cell .text').length === 4")
    hand.press("Enter")
    hand.until("document.querySelector('#viewer:not([hidden]) .name-box')")
    hand.until("document.querySelector('.track-crops img')?.naturalWidth > 0")


@pytest.mark.e2e
@needs_browser
def test_tracks_are_named_by_digit(project: StudioProject, address: str, hand: Hand) -> None:
    project.decisions.unlink(missing_ok=True)
    hand.size(DESKTOP)
    opened_tracks(hand, address)
    first = hand.opened()
    hand.press("2")
    [decision] = wait_for(project, 1)
    assert (decision.kind, decision.item, decision.character) == (ItemKind.TRACK, first, ROSTER[1])
    hand.until(f"new URLSearchParams(location.search).get('item') !== {first!r}")
    hand.press("0")
    assert wait_for(project, 2)[1].character == ""
    assert exemplars_of(project) == {ROSTER[1]: 3}
    hand.press("a")
    hand.until("document.querySelector('#toasts').textContent.includes('Say whom it shows')")
    assert len(project.decided()) == 2
    hand.press("u")
    assert wait_for(project, 3)[2].action is DecisionAction.UNDO
    hand.press("Escape")
    hand.until("document.querySelector('#viewer').hidden")
    # A group at once.
    hand.press("Home")
    hand.press("x")
    hand.click("#cell-2 .thumb", modifiers=SHIFT)
    hand.until("document.querySelectorAll('.cell[aria-selected=true]').length === 3")
    hand.press("1")
    named = wait_for(project, 6)[3:]
    assert {one.character for one in named} == {ROSTER[0]}
    assert len({one.batch for one in named}) == 1
    hand.until("document.querySelectorAll('.cell .named').length === 3")


@pytest.mark.e2e
@needs_browser
@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_track_is_named_by_mouse(
    project: StudioProject, address: str, hand: Hand, device: dict[str, Any]
) -> None:
    hand.size(device)
    opened_tracks(hand, address)
    item, before = hand.opened(), len(project.decided())
    hand.click(".name-box .names button:nth-child(2)")
    assert wait_for(project, before + 1)[-1].character == ROSTER[1]
    hand.click(".actions .undo")
    assert wait_for(project, before + 2)[-1].action is DecisionAction.UNDO
    hand.until(f"new URLSearchParams(location.search).get('item') === {item!r}")
    width = hand.tab.value("document.documentElement.scrollWidth")
    assert width <= device["width"], "nothing must be scrolled sideways"
