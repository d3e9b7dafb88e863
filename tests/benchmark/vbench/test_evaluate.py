"""Scoring a folder of videos: counts, cached scores, and resuming after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flows.cli import app
from mimix_core import tables
from mimix_core.benchmark.vbench import evaluate, score_cache, video_jobs
from mimix_core.benchmark.vbench import video_reader as reading
from mimix_core.benchmark.vbench.dimensions import DIMENSIONS, select_dimensions
from mimix_core.errors import BadInput
from tests.benchmark.vbench import random_inputs, weights_factory
from tests.benchmark.vbench.videos import Frames, noisy, pan, still, switch
from tests.factories import video as write_video

CPU = torch.device("cpu")
CHEAP = select_dimensions(["background_consistency", "subject_consistency"])
WITH_PROMPT = select_dimensions(["overall_consistency", "overall_consistency/viclip-short-prompt"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    videos = tmp_path / "videos"
    write_video(videos / "pan.mp4", pan(4, 3))
    write_video(videos / "still.mp4", still(2))
    (videos / "broken.mp4").write_bytes(b"no video")
    return videos


def rows(out: Path) -> dict[tuple[str, str], evaluate.VBenchRow]:
    return {(row["video"], row["dimension"]): row for row in tables.read(out, evaluate.VBENCH)}


def cached_keys(out: Path) -> list[str]:
    return [json.loads(line)["key"] for line in Path(f"{out}.journal").read_text().splitlines()]


def test_every_video_has_a_row_in_every_dimension(
    folder: Path, weights_dir: Path, tmp_path: Path
) -> None:
    prompts = {"pan": "the cat runs", "still": "a dog", "broken": "x", "gone": "y"}
    out = tmp_path / "scores.parquet"
    summary = evaluate.evaluate_videos(
        video_jobs.plan_video_jobs(folder, prompts), (*CHEAP, *WITH_PROMPT), weights_dir, out, CPU
    )
    found = rows(out)
    assert len(found) == 4 * 4
    assert (summary.scored, summary.cached, summary.failed) == (8, 0, 8)
    assert set(summary.videos.values()) == {2}
    for (name, dimension), row in found.items():
        good = name in ("pan.mp4", "still.mp4")
        assert (row["status"] == "ok") == good == (row["score"] is not None), (name, dimension)
        assert row["reason"] == (None if good else "unreadable_video")
        assert row["metric"] in DIMENSIONS
    assert found["still.mp4", "subject_consistency"]["score"] > 0.999
    assert found["pan.mp4", "overall_consistency"]["score"] == pytest.approx(
        found["pan.mp4", "overall_consistency/viclip-short-prompt"]["score"], abs=1e-6
    )


def test_a_broken_link_is_a_failed_row(folder: Path, weights_dir: Path, tmp_path: Path) -> None:
    (folder / "gone.mp4").symlink_to(tmp_path / "moved away.mp4")
    out = tmp_path / "scores.parquet"
    summary = evaluate.evaluate_videos(
        video_jobs.plan_video_jobs(folder, None), CHEAP[:1], weights_dir, out, CPU
    )
    assert (summary.scored, summary.failed) == (2, 2)
    assert rows(out)["gone.mp4", CHEAP[0].name]["reason"] == "unreadable_video"


def test_nothing_is_scored_or_decoded_twice(
    folder: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def counting(path: Path, prompt: str):
        decoded.append(path.name)
        return reading.read_video(path, prompt)

    monkeypatch.setattr(evaluate, "read_video", counting)
    out, plan = tmp_path / "scores.parquet", video_jobs.plan_video_jobs(folder, None)
    evaluate.evaluate_videos(plan, CHEAP, weights_dir, out, CPU)
    assert sorted(decoded) == ["broken.mp4", "pan.mp4", "still.mp4"]
    first = out.read_bytes()
    summary = evaluate.evaluate_videos(plan, CHEAP, weights_dir, out, CPU)
    # Failed rows are tried again.
    assert sorted(decoded[3:]) == ["broken.mp4"]
    assert (summary.scored, summary.cached, summary.failed) == (0, 4, 2)
    assert out.read_bytes() == first
    assert len(set(cached_keys(out))) == len(cached_keys(out)) == 4


def test_a_score_is_computed_again_only_when_its_inputs_change(
    folder: Path, weights_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.parquet"
    dimensions = (CHEAP[0], WITH_PROMPT[0])

    def evaluate_again(prompt: str) -> evaluate.EvaluationSummary:
        prompts = dict.fromkeys(("pan", "still", "broken"), prompt)
        return evaluate.evaluate_videos(
            video_jobs.plan_video_jobs(folder, prompts), dimensions, weights_dir, out, CPU
        )

    assert evaluate_again("the cat").scored == 4
    assert evaluate_again("the dog").scored == 2
    write_video(folder / "pan.mp4", switch(2))
    assert evaluate_again("the dog").scored == 2
    (folder / "still.mp4").rename(folder / "moved.mp4")
    plan = video_jobs.plan_video_jobs(folder, None)
    assert evaluate.evaluate_videos(plan, CHEAP[:1], weights_dir, out, CPU).scored == 0


def test_an_incomplete_last_line_is_scored_again(
    folder: Path, weights_dir: Path, tmp_path: Path
) -> None:
    out, plan = tmp_path / "scores.parquet", video_jobs.plan_video_jobs(folder, None)
    evaluate.evaluate_videos(plan, CHEAP, weights_dir, out, CPU)
    journal, first = Path(f"{out}.journal"), rows(out)
    journal.write_text(journal.read_text()[:-9])
    assert evaluate.evaluate_videos(plan, CHEAP, weights_dir, out, CPU).scored == 1
    assert rows(out) == first
    assert len(set(cached_keys(out))) == 4


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    with (
        score_cache.open_score_cache(path),
        pytest.raises(BadInput, match="another run"),
        score_cache.open_score_cache(path),
    ):
        pass
    path.write_text("not a score\n")
    with pytest.raises(BadInput, match="not a score"), score_cache.open_score_cache(path):
        pass


def test_the_command(folder: Path, weights_dir: Path, tmp_path: Path) -> None:
    out, prompts = tmp_path / "scores.parquet", tmp_path / "p.json"
    prompts.write_text('{"pan.mp4": "the cat", "still.mp4": "a", "broken.mp4": "b"}')
    words = ["bench", "vbench", "--weights-dir", str(weights_dir), "--videos", str(folder)]
    words += ["--out", str(out), "--device", "cpu"]

    def said(*more: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*words, *more])
        return result.exit_code, " ".join(result.output.split())

    code, output = said("--prompts", str(prompts), "--dimensions", "background_consistency")
    assert code == 0, output
    assert "2 scored, 0 cached, 1 failed" in output
    assert len(rows(out)) == 3
    code, output = said("--dimensions", "overall_consistency")
    assert code == 2
    assert "--prompts" in output
    code, output = said("--dimensions", "beauty")
    assert code == 2
    assert "unknown dimension beauty" in output
    # The weights of the motion dimensions are not there.
    code, output = said("--prompts", str(prompts))
    assert code == 2
    assert "3 weights files are missing" in output


CHILD_SCRIPT = """
import sys, torch
from pathlib import Path
from mimix_core.benchmark.vbench import evaluate, video_jobs
from mimix_core.benchmark.vbench.dimensions import select_dimensions
videos, weights, out, names = sys.argv[1:]
torch.set_num_threads(1)
prompts = {p.name: "the cat runs" for p in Path(videos).iterdir()}
evaluate.evaluate_videos(
    video_jobs.plan_video_jobs(Path(videos), prompts),
    select_dimensions(names.split(",")),
    Path(weights),
    Path(out),
    torch.device("cpu"),
)
"""


def kill_repeatedly(videos: Path, weights: Path, out: Path, names: str, stops: list[int]) -> None:
    """Kill a run after each given number of further scores, then let it finish."""
    call = [sys.executable, "-c", CHILD_SCRIPT, str(videos), str(weights), str(out), names]
    journal = Path(f"{out}.journal")

    def written() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    for stop in stops:
        goal = written() + stop
        process = subprocess.Popen(call)
        while written() < goal:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not out.exists()
    subprocess.run(call, check=True)


@pytest.mark.e2e
def test_a_killed_run_resumes_and_scores_nothing_twice(
    folder: Path, weights_dir: Path, tmp_path: Path
) -> None:
    for number in range(4):
        write_video(folder / f"{number}.mp4", noisy(10.0 + number, 2))
    out, whole = tmp_path / "killed.parquet", tmp_path / "whole.parquet"
    kill_repeatedly(folder, weights_dir, out, CHEAP[0].name, [2])
    keys = cached_keys(out)
    assert len(keys) == len(set(keys)) == 6
    evaluate.evaluate_videos(
        video_jobs.plan_video_jobs(folder, None), CHEAP[:1], weights_dir, whole, CPU
    )
    scores = {key: row["score"] for key, row in rows(out).items()}
    assert scores.keys() == rows(whole).keys()
    for key, row in rows(whole).items():
        assert (row["score"] is None) == (scores[key] is None)
        if row["score"] is not None:
            assert scores[key] == pytest.approx(row["score"], abs=1e-6)


@pytest.mark.e2e
def test_a_hundred_videos_in_every_dimension_survive_kills(tmp_path: Path) -> None:
    weights_dir = weights_factory.write_weights_cache(tmp_path / "weights")
    weights_factory.write_motion_weights(weights_dir)
    folder, out = tmp_path / "videos", tmp_path / "scores.parquet"
    for number in range(99):
        write_video(folder / f"{number:03}.mp4", large(number))
    (folder / "broken.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    kill_repeatedly(folder, weights_dir, out, ",".join(DIMENSIONS), [40, 1, 230, 177])
    keys = cached_keys(out)
    assert len(keys) == len(set(keys)) == 99 * len(DIMENSIONS)
    found = rows(out)
    assert len(found) == 100 * len(DIMENSIONS)
    assert sum(row["status"] == "failed" for row in found.values()) == len(DIMENSIONS)


def large(number: int) -> Frames:
    """Three frames of the smallest size that the motion networks fully support."""
    wide = random_inputs.textured_image(128, 136, seed=number)
    return np.stack([wide[:, shift : shift + 128] for shift in (0, 3, 6)])


def test_a_dimension_named_twice_is_one() -> None:
    names = ["subject_consistency", "subject_consistency/dino", "subject_consistency"]
    assert [d.metric for d in select_dimensions(names)] == ["subject_consistency/dino"]
