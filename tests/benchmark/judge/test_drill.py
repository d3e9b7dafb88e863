"""Judging that is killed twice: no request is sent twice; a broken video fails alone."""

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
from mimix_core.engine.worker import build_request
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables import read
from mimix_core.tables.judge_tables import JUDGEMENTS
from tests.benchmark.judge import factories
from tests.vlm.fake_provider import FakeProvider


def drill(server: FakeProvider, folder: Path, videos: int, killed_at: tuple[float, ...]) -> None:
    server.control(latency=0.02)
    prompts = tuple(
        factories.prompt(n, *list(factories.COLORS)[: n % 3 + 1]) for n in range(videos)
    )
    system = factories.system(folder, "ours", prompts)
    broken = folder / "broken.mp4"
    broken.write_bytes(b"\x00\x00\x00\x18ftypmp42 truncated")
    system = system.model_copy(update={"videos": system.videos | {"p001": file_ref(broken)}})
    inputs, settings = factories.inputs(folder, prompts, system), factories.settings(server)
    store = Store(folder / "store")
    for share in killed_at:
        kill_at(share * 4 * videos, server, store, inputs, settings, folder / "log")
    ref = run_stage(store, STAGE, inputs, settings).ref
    assert (ref.counts.ok, ref.counts.failed) == (4 * (videos - 1), 4)
    failed = [row for row in read(ref.path, JUDGEMENTS) if row["status"] == "failed"]
    assert {(row["prompt_id"], row["reason"]) for row in failed} == {("p001", "unreadable_video")}
    right = server.counts()["right"]
    assert len(right) == 4 * (videos - 1)
    assert set(right.values()) == {1}


def kill_at(
    answers: float,
    server: FakeProvider,
    store: Store,
    inputs: JudgeInputs,
    settings: JudgeSettings,
    log: Path,
) -> None:
    """Run the unit in a separate process and kill it after that many correct answers."""
    with subprocess.Popen(
        [sys.executable, "-m", "mimix_core.engine.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as unit:
        assert unit.stdin is not None
        unit.stdin.write(
            build_request(STAGE, store, inputs, settings, log).model_dump_json().encode() + b"\n"
        )
        unit.stdin.flush()
        deadline = time.monotonic() + 300
        while sum(server.counts()["right"].values()) < answers:
            assert time.monotonic() < deadline
            assert unit.poll() is None
            time.sleep(0.05)
        unit.kill()


def test_a_few_videos(server: FakeProvider, tmp_path: Path) -> None:
    drill(server, tmp_path, 6, (0.4,))


@pytest.mark.e2e
def test_a_hundred_videos(server: FakeProvider, tmp_path: Path) -> None:
    drill(server, tmp_path, 100, (0.25, 0.6))
