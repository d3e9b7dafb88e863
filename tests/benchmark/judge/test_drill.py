"""Judging that is killed twice: no request is sent twice; a broken video fails alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.benchmark.judge.stage import STAGE
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.engine.worker import build_request
from mimix_core.tables import read
from mimix_core.tables.judge_tables import JUDGEMENTS
from tests.benchmark.judge import factories
from tests.vlm.fake_provider import FakeProvider
from tests.vlm.killed_unit import run_and_kill


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
        request = build_request(STAGE, store, inputs, settings, folder / "log")
        run_and_kill(request, share * 4 * videos, server)
    ref = run_stage(store, STAGE, inputs, settings).ref
    assert (ref.counts.ok, ref.counts.failed) == (4 * (videos - 1), 4)
    failed = [row for row in read(ref.path, JUDGEMENTS) if row["status"] == "failed"]
    assert {(row["prompt_id"], row["reason"]) for row in failed} == {("p001", "unreadable_video")}
    right = server.counts()["right"]
    assert len(right) == 4 * (videos - 1)
    assert set(right.values()) == {1}


def test_a_few_videos(server: FakeProvider, tmp_path: Path) -> None:
    drill(server, tmp_path, 6, (0.4,))


@pytest.mark.e2e
def test_a_hundred_videos(server: FakeProvider, tmp_path: Path) -> None:
    drill(server, tmp_path, 100, (0.25, 0.6))
