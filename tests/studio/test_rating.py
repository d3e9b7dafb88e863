"""Pairs that people rate: who sees what, what is saved, and what a rater never learns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from mimix_core.errors import BadInput
from mimix_core.project.pair_ratings import (
    PairKind,
    PairRating,
    RatingLog,
    read_pair_ratings,
)
from mimix_core.project.rating_plan import RatingPlan
from mimix_core.studio.rating_server import create_rating_app
from tests.paths import ROOT
from tests.studio.rating_factory import ASPECTS, SECRETS, make_plan, start_rating


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


def client(plan: RatingPlan, log: Path) -> TestClient:
    base = "http://127.0.0.1:8766"
    app = create_rating_app(plan, RatingLog(log), None)
    return TestClient(app, base_url=base, headers={"origin": base})


def rate_all(page: TestClient, rater: str, value: str = "left") -> list[dict[str, Any]]:
    """Rate everything; return all answers of the server."""
    replies = [page.post("/api/rate/next", json={"rater": rater}).json()]
    while replies[-1]["tasks"]:
        body = {
            "rater": rater,
            "task": replies[-1]["tasks"][0]["id"],
            "answers": dict.fromkeys(ASPECTS, value),
            "seconds": 2.5,
        }
        reply = page.post("/api/rate/answer", json=body)
        assert reply.status_code == 200, reply.text
        replies.append(reply.json())
    return replies


def test_two_raters_see_each_pair_in_both_orders_and_in_the_same_sequence(folder: Path) -> None:
    plan = make_plan(folder, 40, SECRETS)
    first, second, third = plan.tasks(0), plan.tasks(1), plan.tasks(2)
    pairs = [(task.prompt_id, task.left, task.right) for task in first if task.kind == "pair"]
    others = [(task.prompt_id, task.right, task.left) for task in second if task.kind == "pair"]
    assert pairs == others
    assert len(pairs) == len(set(pairs)) == 40 * 3
    assert [task.key for task in third] != [task.key for task in first], "another order"
    assert plan.tasks(0) == first
    assert make_plan(folder, 40, SECRETS, seed=1).tasks(0) != first
    # A system is not always on one side.
    on_left = Counter(left for _, left, _ in pairs)
    assert all(20 < on_left[system] < 60 for system in SECRETS)


def test_controls_and_repeats_are_spread_over_the_sequence(folder: Path) -> None:
    tasks = make_plan(folder, 40, SECRETS).tasks(0)
    kinds = Counter(task.kind for task in tasks)
    assert kinds == {PairKind.PAIR: 120, PairKind.CONTROL: 4, PairKind.REPEAT: 15}
    for place, task in enumerate(tasks):
        if task.kind is PairKind.REPEAT:
            [before] = [
                i
                for i, one in enumerate(tasks)
                if one.kind == "pair" and one.key[1:] == task.key[1:]
            ]
            assert place - before >= 3
            assert (tasks[before].left, tasks[before].right) == (task.right, task.left)
    assert {task.noise for task in tasks if task.kind is PairKind.CONTROL} <= {"left", "right"}
    assert len({task.key for task in tasks}) == len(tasks)


def test_nothing_that_a_rater_receives_names_a_system_or_a_file(
    folder: Path, tmp_path: Path
) -> None:
    plan = make_plan(folder, 4)
    with client(plan, tmp_path / "r.jsonl") as page:
        replies = rate_all(page, "anna")
        seen = json.dumps([replies, page.get("/api/rate").json(), page.get("/").text])
        for reply in replies:
            for task in reply["tasks"]:
                for side in ("left", "right"):
                    video = page.get(f"/rate/video/{task['id']}/{side}")
                    assert video.status_code == 200
                    seen += json.dumps(dict(video.headers)) + str(video.url)
        assert set(replies[0]["tasks"][0]) == {"id", "prompt", "single"}
    for secret in (*SECRETS, "noise", str(folder), ".mp4", "p0", "p3"):
        assert secret not in seen, secret
    guarded = create_rating_app(plan, RatingLog(tmp_path / "r.jsonl"), "secret-token")
    with TestClient(guarded, base_url="http://rating.example", follow_redirects=False) as page:
        assert page.get("/").status_code == 401
        assert page.post("/api/rate/next", json={"rater": "anna"}).status_code == 401
        assert "mimix-rating=" in page.get("/?token=secret-token").headers["set-cookie"]
        assert page.get("/").status_code == 200
    ratings = read_pair_ratings([tmp_path / "r.jsonl"])
    assert {one.left for one in ratings} <= set(SECRETS)


@pytest.mark.e2e
def test_a_rater_goes_on_after_the_server_was_killed_with_nothing_lost(tmp_path: Path) -> None:
    saved = 0
    while True:
        server = start_rating(tmp_path, prompts=3)
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with httpx.Client(base_url=address, headers={"origin": address.rstrip("/")}) as page:
            found = page.post("/api/rate/next", json={"rater": "anna"}).json()
            assert found["done"] == saved
            if found["tasks"]:
                body = {
                    "rater": "anna",
                    "task": found["tasks"][0]["id"],
                    "answers": dict.fromkeys(ASPECTS, "tie"),
                    "seconds": 1,
                }
                page.post("/api/rate/answer", json=body).raise_for_status()
                saved += 1
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        if not found["tasks"] or saved == 3:
            break
    assert len(read_pair_ratings([tmp_path / "ratings.jsonl"])) == saved


_WRITER = """
import sys
from pathlib import Path
from mimix_core.project.pair_ratings import PairKind, PairRating, RatingLog
log, name = RatingLog(Path(sys.argv[1])), sys.argv[2]
log.enrol(name)
for number in range(40):
    log.append(PairRating(record="rating", rater=name, kind=PairKind.PAIR, prompt_id=f"p{number}",
        left="a", right="b", answers={"motion": "left"}))
"""


def test_several_writers_lose_nothing_and_get_numbers_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    path.write_bytes(b'{"record":"rat')  # a line that a killed writer left
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), name], cwd=ROOT)
        for name in ("anna", "ben", "cleo")
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    log = RatingLog(path)
    log.refresh()
    assert sorted(log.numbers.values()) == [0, 1, 2]
    assert Counter(one.rater for one in read_pair_ratings([path])) == {
        "anna": 40,
        "ben": 40,
        "cleo": 40,
    }


def test_what_is_said_last_counts_and_files_can_be_joined(tmp_path: Path) -> None:
    for name, answers in (("one", ("left", "right")), ("two", ("tie",))):
        log = RatingLog(tmp_path / name)
        for answer in answers:
            log.append(
                PairRating.model_validate(
                    {
                        "record": "rating",
                        "rater": "anna",
                        "kind": "pair",
                        "prompt_id": "p",
                        "left": "a",
                        "right": "b",
                        "answers": {"motion": answer},
                    }
                )
            )
    [both] = read_pair_ratings([tmp_path / "one", tmp_path / "two", tmp_path / "one"])
    assert both.answers == {"motion": "tie"}
    (tmp_path / "one").write_text('{"record":"rating"}\n')
    with pytest.raises(BadInput, match="1 of its lines are not ratings"):
        read_pair_ratings([tmp_path / "one"])


@pytest.mark.parametrize(
    "change",
    [
        {"answers": {"identity": "left"}},
        {"answers": {**dict.fromkeys(ASPECTS, "left"), "more": "left"}},
        {"answers": dict.fromkeys(ASPECTS, "both")},
        {"task": "0.0.000000000000"},
        {"task": "7.0.0"},
        {"task": "../../etc/passwd"},
        {"rater": ""},
        {"rater": "ben"},
    ],
)
def test_answers_that_fit_no_pair_are_refused(
    folder: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    with client(make_plan(folder, 2), tmp_path / "r.jsonl") as page:
        task = page.post("/api/rate/next", json={"rater": "anna"}).json()["tasks"][0]["id"]
        body = {"rater": "anna", "task": task, "answers": dict.fromkeys(ASPECTS, "left")}
        reply = page.post("/api/rate/answer", json={**body, "seconds": 1, **change})
        assert reply.status_code in (404, 422)
        assert page.get(f"/rate/video/{task}/middle").status_code == 422
        assert read_pair_ratings([tmp_path / "r.jsonl"]) == []
