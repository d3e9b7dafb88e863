"""The crop of a clip is moved in the studio by mouse and keyboard, within the frame, and undone."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from mimix_core.project.item_decisions import DecisionAction, ItemDecision
from tests.deployments.browser import browsing, chromium
from tests.studio.page_hand import DESKTOP, PHONE, Hand
from tests.studio.studio_project import CROP, SOURCE, StudioProject, build_project, serve

SHIFT = 8


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StudioProject:
    return build_project(tmp_path_factory.mktemp("studio"))


@pytest.fixture
def client(project: StudioProject) -> TestClient:
    project.decisions.unlink(missing_ok=True)
    return project.client()


def first_clip(client: TestClient) -> dict[str, Any]:
    found = client.get("/api/items", params={"kind": "clip", "status": "ok"}).json()
    return dict(found["items"][0]["item"])


def move(client: TestClient, item: dict[str, Any], crop: list[int] | None) -> Any:
    one = {"kind": "clip", "item": item["id"], "action": "crop", "crop": crop}
    return client.post("/api/decisions", json={"decisions": [one]})


def test_a_moved_crop_is_saved_shown_and_undone(client: TestClient, project: StudioProject) -> None:
    item = first_clip(client)
    saved = move(client, item, [0, 10, *CROP[2:]])
    assert saved.status_code == 200, saved.text
    [decision] = project.decided()
    assert (decision.action, decision.crop) == (DecisionAction.CROP, (0, 10, 104, 60))
    where = {"kind": "clip", "id": item["id"]}
    assert client.get("/api/item", params=where).json()["state"]["crop"]["crop"] == [0, 10, 104, 60]
    edited = client.get("/api/items", params={"kind": "clip", "decision": "edited"}).json()
    assert [one["item"]["id"] for one in edited["items"]] == [item["id"]]
    client.post("/api/undo", json={"ids": saved.json()["ids"]})
    assert client.get("/api/item", params=where).json()["state"] is None


@pytest.mark.parametrize(
    ("crop", "why"),
    [
        ([0, 0, 102, 60], "can only be moved"),
        ([106, 0, 104, 60], "within the 208x120 pixels"),
        ([0, 62, 104, 60], "within the 208x120 pixels"),
        ([1, 0, 104, 60], "even pixels"),
        ([-2, 0, 104, 60], "greater than or equal to 0"),
        (None, "a crop belongs to the action crop"),
    ],
)
def test_a_crop_that_cannot_be_cut_is_refused(
    client: TestClient, project: StudioProject, crop: list[int] | None, why: str
) -> None:
    reply = move(client, first_clip(client), crop)
    assert reply.status_code == 422
    assert why in reply.text
    assert project.decided() == []


def test_the_source_is_shown_and_its_path_is_not(client: TestClient) -> None:
    where = {"kind": "clip", "id": first_clip(client)["id"]}
    picture = client.get("/preview/source", params=where)
    assert picture.status_code == 200, picture.text
    assert Image.open(io.BytesIO(picture.content)).size == tuple(SOURCE)
    assert "sources" not in client.get("/api/project").json()
    assert client.get("/preview/source", params={"kind": "scene", "id": "x"}).status_code == 404


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


def open_crop(hand: Hand, address: str) -> None:
    hand.open(f"{address}?kind=clip&status=ok")
    hand.until("document.querySelector('.cell .text')")
    hand.press("Enter")
    hand.until("document.querySelector('#viewer:not([hidden]) .panel .facts')")
    hand.press("m")
    hand.until("document.activeElement.matches('.mover:not(:disabled)')")


def shown_crop(hand: Hand) -> str:
    return str(hand.tab.value("document.querySelector('.crop-text').textContent"))


def wait_for(project: StudioProject, count: int) -> ItemDecision:
    deadline = time.monotonic() + 10
    while len(project.decided()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.03)
    return project.decided()[-1]


@pytest.mark.e2e
@needs_browser
def test_a_crop_is_moved_by_keyboard(project: StudioProject, address: str, hand: Hand) -> None:
    project.decisions.unlink(missing_ok=True)
    hand.size(DESKTOP)
    open_crop(hand, address)
    assert shown_crop(hand) == "Source 208×120, crop 104×60 at 52, 30"
    hand.press("ArrowLeft")
    hand.press("ArrowDown", modifiers=SHIFT)
    assert shown_crop(hand) == "Source 208×120, crop 104×60 at 36, 32, not saved"
    hand.press("Escape")
    assert shown_crop(hand).endswith("at 52, 30"), "discarded, and the item is still open"
    for _ in range(12):
        hand.press("ArrowRight")
    for _ in range(3):
        hand.press("ArrowUp")
    assert "at 104, 0, not saved" in shown_crop(hand), "it ends at the edges of the source"
    hand.press("Enter")
    decision = wait_for(project, 1)
    assert decision.crop == (104, 0, 104, 60)
    hand.until("document.querySelector('.notes').textContent.includes('crop moved by anna')")
    hand.until("document.activeElement.matches('.mover')")
    hand.press("u")
    assert wait_for(project, 2).action is DecisionAction.UNDO
    hand.until("document.querySelector('.crop-text').textContent.endsWith('at 52, 30')")


@pytest.mark.e2e
@needs_browser
@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_crop_is_moved_by_mouse(
    project: StudioProject, address: str, hand: Hand, device: dict[str, Any]
) -> None:
    hand.size(device)
    open_crop(hand, address)
    before = len(project.decided())
    left, _, width = hand.tab.value(
        "(() => { const box = document.querySelector('.fit.source').getBoundingClientRect();"
        "return [box.left, box.top, box.width]; })()"
    )
    assert left >= 0
    assert left + width <= device["width"], "the whole source is on the screen"
    hand.drag(".mover", (-width * 20 / SOURCE[0], 500))
    x, y = map(int, shown_crop(hand).removesuffix(", not saved").rpartition(" at ")[2].split(", "))
    assert abs(x - (CROP[0] - 20)) <= 2
    assert y == SOURCE[1] - CROP[3], "not beyond the lower edge"
    hand.click(".save-crop")
    assert wait_for(project, before + 1).crop == (x, y, *CROP[2:])
    hand.until("document.querySelector('.notes').textContent.includes('crop moved')")
    hand.click(".actions .undo")
    wait_for(project, before + 2)
    hand.press("Escape")
