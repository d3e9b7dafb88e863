"""The studio's server: what it shows, what it saves, and what it never gives away."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from flows.studio_cli import listen
from mimix_core.project.item_decisions import DecisionAction, DecisionLog, ItemDecision, ItemKind
from mimix_core.studio.access_guard import COOKIE
from tests.studio.studio_project import StudioProject, build_project

CAPTION = "[Character: Rinky], digs a hole. [scene-style:cartoon]"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StudioProject:
    return build_project(tmp_path_factory.mktemp("studio"))


@pytest.fixture
def client(project: StudioProject) -> TestClient:
    project.decisions.unlink(missing_ok=True)
    return project.client()


def items(client: TestClient, **query: Any) -> list[dict[str, Any]]:
    found = client.get("/api/items", params={"kind": "clip", "limit": 500, **query}).json()
    assert found["total"] == len(found["items"])
    return list(found["items"])


def decide(client: TestClient, entry: dict[str, Any], action: str, **more: Any) -> dict[str, Any]:
    item = entry["item"]
    one = {"kind": item["kind"], "item": item["id"], "action": action, **more}
    reply = client.post("/api/decisions", json={"decisions": [one]})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def test_every_row_of_every_stage_is_an_item(client: TestClient) -> None:
    counts = client.get("/api/project").json()["counts"]
    # 3 episodes: 6 ok and 15 rejected clips; 10 scenes each and an unreadable file; 3 prompts.
    assert counts == {"clip": 21, "cutout": 6, "composite": 4, "scene": 31, "video": 3}
    by_status = client.get("/api/facets", params={"kind": "clip"}).json()["status"]
    assert sum(by_status.values()) == 21


def test_filters_facets_and_search_agree(client: TestClient) -> None:
    facets = client.get("/api/facets", params={"kind": "clip"}).json()
    for facet, counts in facets.items():
        for value, count in counts.items():
            assert len(items(client, **{facet: value})) == count, (facet, value)
    assert {one["item"]["show"] for one in items(client, show="portraits")} == {"portraits"}
    found = items(client, q="walk hello")
    assert found
    assert all("Hello" in one["item"]["dialogue"] for one in found)
    assert items(client, q="nothing like this") == []
    assert items(client, q='"; DROP TABLE items') == []
    rinky, bunny = (items(client, character=[name]) for name in ("Rinky", "Bunny"))
    assert rinky
    assert bunny
    assert items(client, character=["Rinky", "Bunny"]) == [], "all of them, in one clip"


def test_orders_and_ranges_by_a_measure(client: TestClient) -> None:
    ranked = [one["item"]["numbers"] for one in items(client, kind="scene", sort="frames")]
    lengths = [numbers["frames"] for numbers in ranked]
    assert lengths == sorted(lengths)
    most = items(client, kind="scene", sort="frames", desc="1")[0]["item"]["numbers"]["frames"]
    assert most == max(lengths)
    some = items(client, kind="scene", min_frames=lengths[5], max_frames=lengths[10])
    assert len(some) == sum(lengths[5] <= length <= lengths[10] for length in lengths)
    assert client.get("/api/items", params={"min_frames": "much"}).status_code == 422


def test_a_decision_is_saved_with_what_was_seen_and_undone(
    client: TestClient, project: StudioProject
) -> None:
    entry = items(client, status="ok")[0]
    digest = hashlib.sha256(entry["item"]["caption"].encode()).hexdigest()
    saved = decide(client, entry, "reject", reason="a logo", seen_caption=digest)
    [one] = project.decided()
    assert (one.action, one.reason, one.reviewer) == (DecisionAction.REJECT, "a logo", "anna")
    assert (one.seen, one.seen_caption) == (entry["item"]["digest"], digest)
    assert [e["item"]["id"] for e in items(client, decision="rejected")] == [entry["item"]["id"]]
    client.post("/api/undo", json={"ids": saved["ids"]})
    assert items(client, decision="rejected") == []
    assert len(project.decided()) == 2


def test_a_selection_is_decided_and_undone_at_once(client: TestClient) -> None:
    ids = client.get("/api/ids", params={"kind": "clip"}).json()
    batch = [{"kind": "clip", "item": name, "action": "approve"} for name in ids]
    saved = client.post("/api/decisions", json={"decisions": batch, "batch": "b1"}).json()
    assert len(items(client, decision="approved")) == 18
    duplicates = items(client, decision="kept")
    assert {one["item"]["reason"] for one in duplicates} == {"near_duplicate"}
    assert 18 + len(duplicates) == len(ids)
    client.post("/api/undo", json={"ids": saved["ids"]})
    assert len(items(client, decision="undecided")) == len(ids)


def test_an_edited_caption_is_checked_saved_and_found(client: TestClient) -> None:
    entry = items(client, status="ok")[0]
    item = entry["item"]
    wrong = {"kind": "clip", "id": item["id"], "caption": "Rinky digs"}
    assert client.post("/api/check", json=wrong).json() != []
    one = {"kind": "clip", "item": item["id"], "action": "edit", "caption": "Rinky digs"}
    assert client.post("/api/decisions", json={"decisions": [one]}).status_code == 422
    decide(client, entry, "edit", caption=CAPTION)
    [found] = items(client, q="digs hole")
    assert found["state"]["edit"]["caption"] == CAPTION
    assert found["item"]["caption"] == item["caption"], "the table has changed in no way"


def test_a_second_person_is_seen_and_a_conflict_is_said(
    client: TestClient, project: StudioProject
) -> None:
    entry = items(client, status="ok")[1]
    name = entry["item"]["id"]
    other = DecisionLog(project.decisions)
    other.append(
        [ItemDecision(reviewer="ben", kind=ItemKind.CLIP, item=name, action=DecisionAction.APPROVE)]
    )
    saved = decide(client, entry, "reject", reason="no")
    assert [one["reviewer"] for one in saved["conflicts"]] == ["ben"]
    changed = client.get("/api/changes", params={"since": 0}).json()["states"]
    assert [one["id"] for one in changed] == [name]
    assert [one["item"]["id"] for one in items(client, decision="disputed")] == [name]
    history = client.get("/api/item", params={"kind": "clip", "id": name}).json()["history"]
    assert [one["reviewer"] for one in history] == ["ben", "anna"]


def test_another_video_under_the_same_id_is_said(
    client: TestClient, project: StudioProject
) -> None:
    entry = items(client, status="ok")[0]
    earlier = ItemDecision(
        reviewer="ben",
        kind=ItemKind.CLIP,
        item=entry["item"]["id"],
        action=DecisionAction.APPROVE,
        seen="0" * 64,
    )
    DecisionLog(project.decisions).append([earlier])
    client.get("/api/changes", params={"since": 0})
    assert len(items(client, decision="changed")) == 1


def test_ranges_of_a_video_are_served(client: TestClient, project: StudioProject) -> None:
    item = items(client, status="ok")[0]["item"]
    query = {"kind": "clip", "id": item["id"]}
    whole = client.get("/media/video", params=query)
    assert hashlib.sha256(whole.content).hexdigest() == item["digest"]
    part = client.get("/media/video", params=query, headers={"range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == whole.content[10:20]
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"


def traversals(project: StudioProject) -> list[str]:
    """A hundred ways to ask for a file that is not an item's."""
    secret = project.folder / "secret.txt"
    secret.write_text("secret")
    ups = ["../" * n for n in range(1, 9)] + ["..%2f" * n for n in range(1, 6)]
    ups += [
        "....//" * 3,
        "..\\" * 4,
        "%2e%2e/" * 4,
        "..%252f" * 4,
        "..%c0%af" * 4,
        "/",
        "//",
        "file://",
    ]
    names = [
        f"{up}{name}" for up in ups for name in ("secret.txt", "etc/passwd", "decisions.jsonl")
    ]
    urls = [f"/static/{name}" for name in names[:30]]
    urls += [f"/media/video?kind=clip&id={name}" for name in names]
    urls += [f"/media/{name}" for name in names[:12]]
    urls += [f"/preview/sprite?kind={name}&id=x" for name in names[:12]]
    for page in ("compare/video", "compare/sprite"):
        urls += [f"/{page}?id={name}&row=0&column=0" for name in names[:12]]
    for page in ("preview/source", "preview/masks"):
        urls += [f"/{page}?kind=clip&id={name}" for name in names[:12]]
    urls += [f"/api/wall?id={name}" for name in names[:12]]
    urls += [f"/media/video?kind=clip&id={secret}", "/media/table?kind=clip&id=x", "/../secret.txt"]
    return urls


def test_no_path_leads_out_of_the_store(client: TestClient, project: StudioProject) -> None:
    urls = traversals(project)
    assert len(urls) >= 100
    for url in urls:
        reply = client.get(url)
        assert reply.status_code in (404, 422), url
        assert "secret" not in reply.text.replace("secret.txt", ""), url


def test_an_index_that_names_a_file_outside_is_not_obeyed(project: StudioProject) -> None:
    import sqlite3

    session = project.session()
    item = session.index.ids(list(session.index.spans and [0]))[0]
    changed = project.folder / "changed.sqlite"
    changed.write_bytes(project.index.read_bytes())
    with sqlite3.connect(changed) as database:
        files = json.dumps({"video": "../../decisions.jsonl"})
        database.execute("UPDATE items SET files = ? WHERE id = ?", (files, item))
    project.decisions.touch()
    session.open_index(changed)
    assert session.file("clip", item, "video") is None


def test_a_link_in_the_store_to_a_file_outside_is_not_followed(project: StudioProject) -> None:
    session = project.session()
    item = session.index.ids([0])[0]
    video = session.file("clip", item, "video")
    assert video is not None
    content = video.read_bytes()
    outside = project.folder / "private.mp4"
    outside.write_bytes(content)
    try:
        video.unlink()
        video.symlink_to(outside)
        assert session.file("clip", item, "video") is None
    finally:
        video.unlink()
        video.write_bytes(content)


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "null", None])
def test_only_the_page_itself_decides(client: TestClient, origin: str | None) -> None:
    entry = items(client)[0]["item"]
    one = {"kind": "clip", "item": entry["id"], "action": "approve"}
    headers = {"origin": origin} if origin else {}
    client.headers.pop("origin")
    reply = client.post("/api/decisions", json={"decisions": [one]}, headers=headers)
    assert reply.status_code == 403


def test_another_name_for_this_machine_is_refused(client: TestClient) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        assert client.get("/api/project", headers={"host": host}).status_code == 403
    assert client.get("/api/project", headers={"host": "localhost:9"}).status_code == 200


def test_with_a_token_nothing_is_shown_without_it(project: StudioProject) -> None:
    client = project.client(token="right")
    for url in (
        "/",
        "/api/project",
        "/static/main.js",
        "/?token=wrong",
        "/api/project?token=right",
    ):
        assert client.get(url).status_code == 401, url
    client.cookies.set(COOKIE, "right")
    assert client.get("/").status_code == 401, "the token is not the cookie"
    client.cookies.clear()
    admitted = client.get("/?token=right")
    assert (admitted.status_code, admitted.headers["location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=Strict"} <= set(admitted.headers["set-cookie"].split("; "))
    assert client.get("/api/project").status_code == 200


def test_the_page_may_run_and_load_only_its_own(client: TestClient) -> None:
    reply = client.get("/")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "//" not in reply.text.replace("http://www.w3.org", ""), "nothing comes from elsewhere"
    static = Path(__file__).parents[2] / "mimix_core" / "studio" / "static"
    for file in static.iterdir():
        assert client.get(f"/static/{file.name}").content == file.read_bytes()
        text = file.read_text().replace("http://www.w3.org/", "")
        assert "http://" not in text, file.name
        assert "https://" not in text, file.name
        assert "innerHTML" not in text, file.name


def test_small_answers_are_sent_at_once() -> None:
    """Without TCP_NODELAY an answer's body waits for the acknowledgement of its header, 40 ms."""

    async def ask() -> int:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            writer.write(bytes([connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)]))
            writer.close()

        listener = listen("127.0.0.1", 0)
        async with await asyncio.start_server(answer, sock=listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            [value] = await reader.read()
            writer.close()
        return value

    assert asyncio.run(ask()) == 1
