"""Judging that is killed twice on the way: nothing is asked twice; a broken video fails alone."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.benchmark.judge.stage import STAGE
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.engine.worker import request
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables import read
from mimix_core.tables.judge_tables import JUDGEMENTS
from tests.benchmark.judge import world
from tests.vlm.standin import StandIn


def drill(server: StandIn, folder: Path, videos: int, killed_at: tuple[float, ...]) -> None:
    server.control(latency=0.02)
    prompts = tuple(world.prompt(n, *list(world.COLOURS)[: n % 3 + 1]) for n in range(videos))
    system = world.system(folder, "ours", prompts)
    broken = folder / "broken.mp4"
    broken.write_bytes(b"\x00\x00\x00\x18ftypmp42 and no more")
    system = system.model_copy(update={"videos": system.videos | {"p001": file_ref(broken)}})
    given, how = world.inputs(folder, prompts, system), world.settings(server)
    store = Store(folder / "store")
    for share in killed_at:
        kill_at(share * 4 * videos, server, store, given, how, folder / "log")
    ref = run_stage(store, STAGE, given, how).ref
    assert (ref.counts.ok, ref.counts.failed) == (4 * (videos - 1), 4)
    failed = [row for row in read(ref.path, JUDGEMENTS) if row["status"] == "failed"]
    assert {(row["prompt_id"], row["reason"]) for row in failed} == {("p001", "unreadable_video")}
    right = server.counts()["right"]
    assert len(right) == 4 * (videos - 1)
    assert set(right.values()) == {1}


def kill_at(
    answers: float,
    server: StandIn,
    store: Store,
    given: JudgeInputs,
    how: JudgeSettings,
    log: Path,
) -> None:
    """Run the unit in a process of its own, and kill that once so many are answered rightly."""
    with subprocess.Popen(
        [sys.executable, "-m", "mimix_core.engine.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as unit:
        assert unit.stdin is not None
        unit.stdin.write(request(STAGE, store, given, how, log).model_dump_json().encode() + b"\n")
        unit.stdin.flush()
        deadline = time.monotonic() + 300
        while sum(server.counts()["right"].values()) < answers:
            assert time.monotonic() < deadline
            assert unit.poll() is None
            time.sleep(0.05)
        unit.kill()


def test_a_few_videos(server: StandIn, tmp_path: Path) -> None:
    drill(server, tmp_path, 6, (0.4,))


@pytest.mark.e2e
def test_a_hundred_videos(server: StandIn, tmp_path: Path) -> None:
    drill(server, tmp_path, 100, (0.25, 0.6))
