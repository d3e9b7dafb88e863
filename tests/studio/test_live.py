"""What runs are doing: progress across processes, training curves, and a page that only shows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mimix_core.project.live_status import (
    RunProgress,
    StageProgress,
    live_status,
    read_live_status,
)
from mimix_core.studio.live_server import average_runs
from tasks.console_progress import ConsoleProgress
from tests.paths import ROOT
from tests.studio.comparison_factory import write_training_run
from tests.studio.studio_project import StudioProject


def test_a_run_says_how_far_its_stages_are_until_it_ends(tmp_path: Path) -> None:
    with live_status(tmp_path, "train", "run-1") as writer:
        console = ConsoleProgress(live=writer)
        with console.stage("clips", 4):
            console.update("clips", "one", 1, 2, "cutting")
            writer.advance("clips", 0.5, "one cutting")
            [run] = read_live_status(tmp_path)
            assert (run.flow, run.flow_run_id) == ("train", "run-1")
            [stage] = run.stages
            assert (stage.stage, stage.units, stage.ended) == ("clips", 4, None)
        [run] = read_live_status(tmp_path)
        assert run.stages[0].ended is not None
        assert run.stages[0].done == 0.5
    assert read_live_status(tmp_path) == []
    assert list((tmp_path / "live").iterdir()) == []


_HOLDER = """
import sys, time
from pathlib import Path
from mimix_core.project.live_status import live_status
with live_status(Path(sys.argv[1]), "train", "") as writer:
    writer.begin("lora", 1)
    print("at work", flush=True)
    time.sleep(300)
"""


def test_a_killed_run_is_not_at_work(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "at work\n"
    [run] = read_live_status(tmp_path)
    assert run.stages[0].stage == "lora"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert read_live_status(tmp_path) == []
    # The next run clears up.
    with live_status(tmp_path, "train", ""):
        assert len(list((tmp_path / "live").iterdir())) == 2


def test_the_time_left_follows_from_the_time_so_far() -> None:
    stage = StageProgress(stage="clips", units=8, done=2, note="", started=100.0)
    assert stage.seconds_left(160.0) == pytest.approx(180)
    assert stage.model_copy(update={"done": 0}).seconds_left(160.0) is None
    assert stage.model_copy(update={"ended": 150.0}).seconds_left(160.0) is None


def test_long_curves_are_averaged_and_short_ones_are_not() -> None:
    points = [(step, float(step)) for step in range(1, 1001)]
    assert average_runs(points[:10], 600) == points[:10]
    few = average_runs(points, 500)
    assert few[0] == (2, 1.5)
    assert few[-1] == (1000, 999.5)
    assert len(few) == 500


def test_without_a_server_the_page_shows_and_starts_nothing(tmp_path: Path) -> None:
    from tests.studio.studio_project import build_project

    project: StudioProject = build_project(tmp_path)
    folder = write_training_run(project.workspace, (0, 10, 20), ["waves"])
    (folder / "speed.jsonl").write_text(json.dumps({"step": 20, "seconds": 1.5}) + "\n")
    with project.client() as client, live_status(project.workspace, "train", "") as writer:
        writer.begin("lora", 1)
        writer.advance("lora", 0.25, "loss 0.5")
        time.sleep(0.01)
        shown = client.get("/api/live").json()
        assert shown["server"] is None
        assert RunProgress.model_fields.keys() >= {"flow", "stages"}
        assert shown["runs"][0]["stages"][0]["stage"] == "lora"
        key = shown["trainings"][0]["key"]
        training = client.get("/api/training", params={"key": key}).json()
        assert [step for step, _ in training["train"]] == [10, 20]
        assert training["held_out"][0][2:] == pytest.approx([0.95, 1.05])
        assert training["seconds_per_step"] == 1.5
        assert (training["preview_step"], training["columns"]) == (20, 3)
        assert client.get("/api/training", params={"key": "../x"}).status_code == 404
        some = "5f0c5f0c-5f0c-5f0c-5f0c-5f0c5f0c5f0c"
        refused = client.post("/api/runs/start", json={"deployment": some})
        assert refused.status_code == 409
        assert client.post("/api/runs/cancel", json={"run": "x/../y"}).status_code == 422
        other = {"origin": "http://evil.example"}
        assert client.post("/api/runs/cancel", json={"run": some}, headers=other).status_code == 403
