"""The Batch API: half the price, every way a batch can end, and no batch paid twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from mimix_core.engine import progress
from mimix_core.errors import BadInput
from mimix_core.vlm import BudgetExceeded, ChatMessage, TextPart, VideoPart, run_requests
from tests.vlm.fake_provider import RESPONSE_COST, ROOT, FakeProvider, find_workers, question
from tests.vlm.test_client import asked

FAST = {"mode": "batch", "batch_poll_interval_seconds": 0.1}
SCRIPT = {
    "broken": ["500", "right"],
    "prose": ["not_json", "right"],
    "expired": ["expired", "right"],
    "long": ["truncated"],
    "no": ["refused"],
    "bad": ["400"],
    "never": ["expired"],
}
FAILS = {
    "prose": "invalid",
    "long": "truncated",
    "no": "refused",
    "bad": "rejected",
    "never": "unavailable",
}


def test_every_question_of_a_batch_is_answered_or_fails_with_its_reason(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(script=SCRIPT, batch_seconds=0.2)
    names = [*"abcdefg", *SCRIPT]
    found = asked(names, server, tmp_path, **FAST, max_batch_requests=5, max_attempts=2)
    for name, one in found.items():
        if name in FAILS:
            assert one.error is not None
            assert one.error.kind == FAILS[name]
        else:
            assert one.response is not None, (name, one.error)
            assert one.response.cost_usd == RESPONSE_COST
    assert (found["prose"].attempts, found["prose"].cost_usd) == (1, RESPONSE_COST)
    counts = server.counts()
    assert all(right == 1 for right in counts["right"].values())
    assert counts["files"] == [], "files are deleted once all is on disk"
    assert len(counts["batches"]) >= 3
    again = asked([name for name in names if name not in FAILS], server, tmp_path, **FAST)
    assert all(one.response and one.cached for one in again.values())


def test_live_and_batch_share_their_answers(server: FakeProvider, tmp_path: Path) -> None:
    asked(list("abc"), server, tmp_path, **FAST)
    asked(list("abcd"), server, tmp_path)
    assert server.counts()["right"] == dict.fromkeys("abcd", 1)


def test_a_batch_whose_creation_was_not_heard_of_is_found(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(cut_after_create=True)
    found = asked(list("abc"), server, tmp_path, **FAST)
    assert all(one.response for one in found.values())
    assert len(server.counts()["batches"]) == 1


@pytest.mark.e2e
def test_a_batch_is_gone_on_with_after_everything_was_killed(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(batch_seconds=4.0)
    leave_a_batch(server, tmp_path, 6)
    names = [str(number) for number in range(8)]
    found = asked(names, server, tmp_path, **FAST)
    assert all(one.response for one in found.values())
    assert server.counts()["right"] == dict.fromkeys(names, 1)
    # The two that nobody had asked for are a batch of their own.
    assert len(server.counts()["batches"]) == 2


def leave_a_batch(server: FakeProvider, folder: Path, count: int) -> None:
    """Start a batch and kill everything that waits for it."""
    asker = [sys.executable, "-m", "tests.vlm.run_client"]
    words = [*asker, server.settings(**FAST).model_dump_json(), str(folder), str(count)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL) as asking:
        deadline = time.monotonic() + 60
        while not server.counts()["batches"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for worker in find_workers(asking.pid):
            os.kill(worker, signal.SIGKILL)
        asking.kill()


@pytest.mark.e2e
@pytest.mark.parametrize("batch_seconds", [0.0, 10.0])
def test_a_live_run_collects_a_batch_that_was_left_and_pays_nothing_again(
    server: FakeProvider, tmp_path: Path, batch_seconds: float
) -> None:
    server.control(batch_seconds=batch_seconds)
    leave_a_batch(server, tmp_path, 4)
    statuses: list[str] = []
    with progress.progress_listener(lambda done, total, note: statuses.append(note)):
        found = asked(
            [str(number) for number in range(6)],
            server,
            tmp_path,
            batch_poll_interval_seconds=0.2,
            budget_usd="0.05",
        )
    assert all(one.response for one in found.values())
    assert server.counts()["right"] == {str(number): 1 for number in range(6)}
    assert any("batches that an earlier run started" in one for one in statuses) == (
        batch_seconds > 0
    )
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert not list((tmp_path / "asking").iterdir()), "the batch's reservation is released"


@pytest.mark.parametrize(
    "damage", ["empty_ids", "blank_lines", "torn_line", "string_bodies", "odd_lines"]
)
def test_damaged_result_files_cost_only_the_lines_that_are_lost(
    server: FakeProvider, tmp_path: Path, damage: str
) -> None:
    server.control(batch_damage=damage)
    found = asked(list("abcd"), server, tmp_path, **FAST, max_attempts=3)
    assert all(one.response for one in found.values())
    lost = {"torn_line": 1, "odd_lines": 1}.get(damage, 0)
    assert sum(server.counts()["right"].values()) == 4 + lost


def test_the_limit_of_enqueued_tokens_paces_batches(server: FakeProvider, tmp_path: Path) -> None:
    server.control(enqueued_limit=3, batch_seconds=0.2)
    names = [str(number) for number in range(10)]
    found = asked(names, server, tmp_path, **FAST, max_batch_requests=8, max_attempts=1)
    assert all(one.response for one in found.values())
    assert server.counts()["right"] == dict.fromkeys(names, 1)


def test_a_request_above_the_limit_of_enqueued_tokens_fails(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(enqueued_limit=0, batch_seconds=0.2)
    [found] = asked(["a"], server, tmp_path, **FAST, max_attempts=2).values()
    assert found.error is not None
    assert "limit of enqueued tokens" in str(found.error)


def test_a_batch_that_the_provider_forgot_is_named(server: FakeProvider, tmp_path: Path) -> None:
    server.control(batch_seconds=60)
    leave_a_batch(server, tmp_path, 2)
    server.control(forget_batches=True)
    for settings in (FAST, {}):
        with pytest.raises(BadInput, match=r"batches/.*json: the provider does not know the batch"):
            asked(["0"], server, tmp_path, **settings)


def test_the_budget_ends_batches(server: FakeProvider, tmp_path: Path) -> None:
    server.control(batch_seconds=0.1)
    names = [str(number) for number in range(20)]
    with pytest.raises(BudgetExceeded) as told:
        list(
            run_requests(map(question, names), server.settings(**FAST, budget_usd="0.01"), tmp_path)
        )
    right = server.counts()["right"]
    assert 0 < len(right) < 20
    assert told.value.spent_usd == len(right) * RESPONSE_COST
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert Decimal(json.loads(lines[-1])["total_usd"]) == told.value.spent_usd


def test_only_one_backend_has_batches(server: FakeProvider, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="batches are not supported"):
        asked(["a"], server, tmp_path, backend="gemini", mode="batch")


def test_a_video_is_no_part_of_a_batch(server: FakeProvider, tmp_path: Path) -> None:
    video = ChatMessage("user", (VideoPart(tmp_path / "x.mp4", 1.0, "0" * 64), TextPart("[[a]]")))
    with pytest.raises(BadInput, match="does not support videos"):
        list(run_requests([question("a", messages=(video,))], server.settings(**FAST), tmp_path))
