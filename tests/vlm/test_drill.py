"""The fault drill: a bad server, the asking process killed twice, and nothing paid twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.vlm.fake_provider import ROOT, FakeProvider, find_workers

# What a tenth of the questions meets, and how they end.
FAULTS = [
    (["500", "503", "right"], "answered"),
    (["429:0.2", "429date:0", "right"], "answered"),
    (["cut", "right"], "answered"),
    (["cut_mid", "right"], "answered"),
    (["garbage", "right"], "answered"),
    (["not_json"], "invalid"),
    (["wrong_schema"], "invalid"),
    (["empty"], "invalid"),
    (["slow:1"], "answered"),
    (["truncated"], "truncated"),
    (["refused"], "refused"),
    (["filtered"], "refused"),
    (["400"], "rejected"),
    (["invented"], "invalid"),
]
KILLED_AT = (0.25, 0.6)


@pytest.mark.e2e
@pytest.mark.parametrize("mode", ["live", "batch"])
def test_nothing_is_paid_twice(server: FakeProvider, tmp_path: Path, mode: str) -> None:
    drill(server, tmp_path, 140, mode)


@pytest.mark.e2e
def test_nothing_is_paid_twice_in_two_thousand(server: FakeProvider, tmp_path: Path) -> None:
    drill(server, tmp_path, 2000, "live")


def drill(server: FakeProvider, folder: Path, count: int, mode: str) -> None:
    bad = {str(n): FAULTS[n // 10 % len(FAULTS)] for n in range(0, count, 10)}
    # A batch has no wire of its own a line: what can go wrong with one is tested beside it.
    if mode == "batch":
        bad = {name: (how, end) for name, (how, end) in bad.items() if ":" not in how[0]}
        bad = {name: one for name, one in bad.items() if "cut" not in one[0][0]}
        bad = {name: one for name, one in bad.items() if one[0][0] != "garbage"}
    script = {name: how for name, (how, _) in bad.items()}
    server.control(script=script, latency=0.02, batch_seconds=1.0)
    settings = server.settings(
        mode=mode, max_batch_requests=50, batch_poll_interval_seconds=0.2, max_attempts=3
    )
    for turn, share in enumerate(KILLED_AT):
        with subprocess.Popen(
            words(settings, folder, count), cwd=ROOT, stdout=subprocess.DEVNULL
        ) as asking:
            # A batch's answers come at once: killed while they are waited for, and taken in.
            enough = share * count if mode == "live" else turn
            wait_until(lambda enough=enough: answered(folder) >= enough and sent(server, mode))
            asking.kill()
    done = subprocess.run(
        words(settings, folder, count), cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    ends = {name: kind for name, kind, _ in map(json.loads, done.stdout.splitlines())}
    assert ends == {str(n): bad[str(n)][1] if str(n) in bad else "answered" for n in range(count)}
    right = server.counts()["right"]
    assert Counter(right.values()) == {1: sum(end == "answered" for end in ends.values())}


def words(settings: Any, folder: Path, count: int) -> list[str]:
    asked = [settings.model_dump_json(), str(folder), str(count)]
    return [sys.executable, "-m", "tests.vlm.run_client", *asked]


def answered(folder: Path) -> int:
    return sum(1 for _ in folder.glob("??/*.json"))


def sent(server: FakeProvider, mode: str) -> bool:
    return mode == "live" or bool(server.counts()["batches"])


def wait_until(true: Any) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.e2e
def test_killing_the_worker_too_loses_at_most_the_requests_in_flight(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(latency=0.1)
    settings = server.settings(max_concurrency=4)
    with subprocess.Popen(
        words(settings, tmp_path, 60), cwd=ROOT, stdout=subprocess.DEVNULL
    ) as asking:
        wait_until(lambda: answered(tmp_path) >= 20)
        for worker in find_workers(asking.pid):
            os.kill(worker, signal.SIGKILL)
        asking.kill()
    subprocess.run(words(settings, tmp_path, 60), cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    right = Counter(server.counts()["right"].values())
    assert right[1] + right[2] == 60
    assert right[2] <= 4
