"""Requests to a server by the official clients: responses, failures, attempts, costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mimix_core.engine import progress
from mimix_core.errors import BadInput, StageFailed
from mimix_core.vlm import (
    BadCredentials,
    BudgetExceeded,
    ChatMessage,
    ImagePart,
    TextPart,
    TokenUsage,
    Unavailable,
    VlmOutcome,
    VlmRequest,
    run_requests,
)
from tests.vlm.fake_provider import (
    KEY_NAME,
    RESPONSE_COST,
    ROOT,
    FakeProvider,
    Seen,
    find_workers,
    question,
)
from tests.vlm.test_prices import jpeg

BACKENDS = ["openai", "gemini", "google-generativeai"]
SCRIPT = {
    "good": ["right"],
    "late": ["slow:0.5"],
    "broken": ["500", "right"],
    "prose": ["not_json", "right"],
    "shape": ["wrong_schema", "right"],
    "empty": ["empty", "right"],
    "garbage": ["garbage", "right"],
    "cut": ["cut", "right"],
    "cut_mid": ["cut_mid", "right"],
    "limited": ["429:1", "right"],
    "dated": ["429date:1", "right"],
    "long": ["truncated"],
    "no": ["refused"],
    "filtered": ["filtered"],
    "bad": ["400"],
    "never": ["500"],
}
FAILS = {
    "long": ("truncated", 1),
    "no": ("refused", 1),
    "filtered": ("refused", 1),
    "bad": ("rejected", 1),
    "never": ("unavailable", 3),
    # Whoever asked may ask again, and say what was wrong; the same question gets the same answer.
    "prose": ("invalid", 1),
    "shape": ("invalid", 1),
    "empty": ("invalid", 1),
}


def asked(
    names: list[str], server: FakeProvider, answers: Path, **settings: Any
) -> dict[str, VlmOutcome[Seen]]:
    outcomes = list(run_requests(map(question, names), server.settings(**settings), answers))
    found = {one.id: one for one in outcomes}
    assert len(found) == len(outcomes) == len(names)
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_question_is_answered_or_fails_with_its_reason(
    server: FakeProvider, tmp_path: Path, backend: str
) -> None:
    server.control(script=SCRIPT)
    found = asked(list(SCRIPT), server, tmp_path, backend=backend, max_attempts=3)
    for name, one in found.items():
        if name in FAILS:
            assert one.error is not None
            assert (one.error.kind, one.attempts) == FAILS[name], name
            assert one.response is None
        else:
            assert one.response is not None, (name, one.error)
            assert one.response.value == Seen(who="Tom", what=f"does {name}")
            assert one.response.usage == TokenUsage(1000, 400, 50)
            assert one.response.cost_usd == RESPONSE_COST
    # A reply that is none was paid, too.
    assert found["prose"].cost_usd == found["shape"].cost_usd == RESPONSE_COST

    before = server.counts()["asked"]
    answered = [name for name in SCRIPT if name not in FAILS]
    again = asked(answered, server, tmp_path, backend=backend)
    assert all(one.response and one.cached for one in again.values())
    assert server.counts()["asked"] == before
    for name, one in again.items():
        first = found[name]
        assert (one.attempts, one.cost_usd) == (first.attempts, first.cost_usd)
    assert not list((tmp_path / "asking").iterdir())


def test_what_goes_over_the_wire_to_openai(server: FakeProvider, tmp_path: Path) -> None:
    server.control(keep_bodies=True)
    messages = (
        ChatMessage("system", (TextPart("rules"),)),
        ChatMessage("user", (TextPart("roster"), ImagePart(jpeg(8, 8), "low"), TextPart("[[x]]"))),
        ChatMessage("assistant", (TextPart("an answer"),)),
        ChatMessage("user", (TextPart("again"),)),
    )
    one = question("x", messages=messages, temperature=None, reasoning_effort="low")
    list(run_requests([one], server.settings(), tmp_path))
    [body] = server.counts()["bodies"]
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert body["messages"][0]["content"] == "rules"
    picture = body["messages"][1]["content"][1]["image_url"]
    assert picture["detail"] == "low"
    assert picture["url"].startswith("data:image/jpeg;base64,")
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"] == dict(one.schema)
    assert body["reasoning_effort"] == "low"
    assert body["max_tokens"] == 100
    assert "temperature" not in body


def test_questions_are_taken_as_they_are_asked(server: FakeProvider, tmp_path: Path) -> None:
    taken = 0
    server.control(script={"0": ["slow:0.5"]})

    def many() -> Iterator[VlmRequest[Seen]]:
        nonlocal taken
        for number in range(200):
            taken = number
            yield question(str(number))

    furthest = 0
    for done, _ in enumerate(run_requests(many(), server.settings(max_concurrency=2), tmp_path)):
        furthest = max(furthest, taken - done)
    assert taken == 199
    assert furthest < 20
    assert server.counts()["most_at_once"] == 2


def test_the_same_question_asked_at_once_by_two_processes_is_sent_once(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(latency=0.3)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mimix_core.settings.vlm_settings import VlmSettings\n"
        "from mimix_core.vlm import run_requests\n"
        "from tests.vlm.fake_provider import question\n"
        "settings = VlmSettings.model_validate_json(sys.argv[1])\n"
        "names = [str(n) for n in range(20)] + ['0', '1']\n"
        "found = list(run_requests(map(question, names), settings, Path(sys.argv[2])))\n"
        "assert all(one.response for one in found) and len(found) == 22\n"
    )
    words = [sys.executable, "-c", code, server.settings().model_dump_json(), str(tmp_path)]
    both = [subprocess.Popen(words, cwd=ROOT) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert server.counts()["right"] == {str(n): 1 for n in range(20)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_unusable_response_is_paid_once_and_kept_as_it_came(
    server: FakeProvider, tmp_path: Path, backend: str
) -> None:
    unusable = ["long", "no", "filtered", "prose", "shape", "empty"]
    server.control(script=SCRIPT)
    first = asked(unusable, server, tmp_path, backend=backend)
    before, spent = server.counts()["asked"], (tmp_path / "ledger.jsonl").read_text()
    again = asked(unusable, server, tmp_path, backend=backend)
    assert server.counts()["asked"] == before
    assert (tmp_path / "ledger.jsonl").read_text() == spent
    for name in unusable:
        one, other = first[name], again[name]
        assert one.error is not None
        assert other.error is not None
        assert (other.error.kind, str(other.error)) == (one.error.kind, str(one.error))
        assert (other.attempts, other.cost_usd, other.cached) == (one.attempts, one.cost_usd, True)
    assert again["prose"].error is not None
    assert again["prose"].error.text == "I see a cat and a mouse."


def test_a_torn_answer_file_is_none(server: FakeProvider, tmp_path: Path) -> None:
    asked(["a"], server, tmp_path)
    [kept] = tmp_path.glob("??/*.json")
    kept.write_bytes(kept.read_bytes()[:40])
    assert asked(["a"], server, tmp_path)["a"].response is not None


@pytest.mark.e2e
def test_the_budget_is_a_ceiling_over_restarts(server: FakeProvider, tmp_path: Path) -> None:
    names = [str(number) for number in range(30)]
    budget = Decimal("0.0290")
    for _ in range(2):
        with pytest.raises(BudgetExceeded, match="raise budget_usd") as told:
            asked(names, server, tmp_path, budget_usd=budget)
        right = server.counts()["right"]
        # What the next one may cost (0.0028: 100 tokens of output) was not left after the 14th.
        assert len(right) in (13, 14)
        assert set(right.values()) == {1}
        assert told.value.spent_usd == len(right) * RESPONSE_COST
    more = asked(names, server, tmp_path, budget_usd=1)
    assert all(one.response for one in more.values())
    assert set(server.counts()["right"].values()) == {1}


def test_what_is_under_way_at_the_budget_is_finished_and_kept(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(latency=0.3)
    found: list[VlmOutcome[Seen]] = []
    settings = server.settings(budget_usd="0.004", max_concurrency=4)
    with pytest.raises(BudgetExceeded):
        for one in run_requests(map(question, "abcdefgh"), settings, tmp_path):
            found.append(one)
    right = server.counts()["right"]
    assert sorted(one.id for one in found if one.response) == sorted(right)
    assert right
    assert not list((tmp_path / "asking").iterdir())


def test_an_account_without_money_stops_everything(server: FakeProvider, tmp_path: Path) -> None:
    server.control(all="quota")
    with pytest.raises(BudgetExceeded, match="the account at the provider has no credit left"):
        asked(list("abc"), server, tmp_path)


@pytest.mark.parametrize("backend", ["openai", "google-generativeai"])
def test_a_key_that_is_not_taken_stops_everything(
    server: FakeProvider, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_NAME, "sk-another-key-0123456789")
    with pytest.raises(BadCredentials) as told:
        asked(["a"], server, tmp_path, backend=backend)
    assert "another" not in str(told.value)


def test_a_missing_key_is_told_before_anything_is_asked(
    server: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_NAME)
    with pytest.raises(BadCredentials, match=KEY_NAME):
        asked(["a"], server, tmp_path)
    assert server.counts()["asked"] == {}


def test_a_model_that_is_not_there_stops_everything(server: FakeProvider, tmp_path: Path) -> None:
    server.control(all="404")
    with pytest.raises(BadInput, match="does not know the model"):
        asked(list("abc"), server, tmp_path)


def test_a_server_that_is_not_there_is_told_and_not_written_into_every_row(
    server: FakeProvider, tmp_path: Path
) -> None:
    settings = server.settings(base_url="http://127.0.0.1:1/v1", max_attempts=1)
    found = []
    with pytest.raises(Unavailable, match="10 requests in a row"):
        found.extend(run_requests((question(str(n)) for n in range(1000)), settings, tmp_path))
    assert server.counts()["asked"] == {}


@pytest.mark.e2e
def test_a_rate_limit_without_end_fails_the_question(server: FakeProvider, tmp_path: Path) -> None:
    server.control(script={"a": ["429:1"]})
    found = asked(["a", "b"], server, tmp_path, rate_limit_timeout_seconds=2)
    assert found["a"].error is not None
    assert found["a"].error.kind == "rate_limited"
    assert found["b"].response is not None


@pytest.mark.e2e
def test_a_rest_longer_than_our_patience_is_not_slept_through(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(script={"a": ["429:3600"]})
    found = asked(["a", "b", "c"], server, tmp_path, rate_limit_timeout_seconds=2)
    assert found["a"].error is not None
    assert all(one.error is None or one.error.kind == "rate_limited" for one in found.values())
    [after] = asked(["d"], server, tmp_path, rate_limit_timeout_seconds=2).values()
    assert after.error is not None
    assert "another 60 minutes" in str(after.error)


@pytest.mark.e2e
def test_one_question_that_is_limited_makes_all_wait(server: FakeProvider, tmp_path: Path) -> None:
    server.control(script={"a": ["429:2", "right"], "b": ["reset:2"]})
    asked(["a"], server, tmp_path)
    asked(["b"], server, tmp_path)
    asked(["c"], server, tmp_path)
    first, again, b, c = server.counts()["times"]
    assert again - first >= 1.9
    assert c - b >= 1.9


def test_the_answers_are_there_when_the_caller_stops_listening(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(latency=0.5)
    outcomes = run_requests(
        map(question, "abcdefghijkl"), server.settings(max_concurrency=3), tmp_path
    )
    next(outcomes)
    outcomes.close()
    deadline = time.monotonic() + 20
    while list((tmp_path / "asking").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    right = server.counts()["right"]
    assert 3 <= len(right) <= 9
    again = asked(list(right), server, tmp_path)
    assert all(one.response and one.cached for one in again.values())


def test_waiting_is_told(server: FakeProvider, tmp_path: Path) -> None:
    server.control(script={"a": ["slow:2.5"]})
    told = []
    with progress.progress_listener(lambda done, total, note: told.append((done, total, note))):
        list(run_requests([question("a")], server.settings(), tmp_path, total=7))
    assert told
    assert set(told) == {(0, 7, "waiting for responses")}


def test_the_death_of_the_worker_is_reported(server: FakeProvider, tmp_path: Path) -> None:
    server.control(latency=2.0)

    def kill_the_worker() -> None:
        while not server.counts()["asked"]:
            time.sleep(0.05)
        [worker] = find_workers(os.getpid())
        os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_worker)
    killer.start()
    with pytest.raises(StageFailed, match="the process that sends requests to the model died"):
        asked(["a", "b"], server, tmp_path)
    killer.join()
    # Nobody knows whether these were paid: they count, at what they may have cost.
    server.control(latency=0.0)
    again = asked(["c"], server, tmp_path)["c"]
    assert again.response is not None
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["lost", "lost", "answered"]
    assert Decimal(lines[0]["usd"]) > 0
