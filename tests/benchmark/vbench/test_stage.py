"""VBench's dimensions as metrics of the scores stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core import tables
from mimix_core.benchmark import scores_stage
from mimix_core.benchmark.metrics import METRICS
from mimix_core.benchmark.vbench import evaluate, vbench_weights
from mimix_core.benchmark.vbench.dimensions import DIMENSIONS, select_dimensions
from mimix_core.benchmark.vbench.video_jobs import VideoJob
from mimix_core.diagnostics.model_requirements import required_models
from mimix_core.errors import BadInput, MissingModel
from mimix_core.settings import Config, ScoreSettings
from mimix_core.tables import CLIPS, SAMPLES
from tests.benchmark.test_scores_stage import sample
from tests.benchmark.vbench.videos import pan
from tests.factories import clip, table_ref, video

OVERALL, BACKGROUND = "overall_consistency/viclip", "background_consistency/clip"


@pytest.fixture
def inputs(tmp_path: Path) -> scores_stage.ScoreInputs:
    video(tmp_path / "samples" / "samples" / "pan.mp4", pan(4, 3))
    video(tmp_path / "clips" / "clips" / "real.mp4", pan(4, 3))
    rows = [{**sample("pan"), "prompt": "the cat runs"}]
    return scores_stage.ScoreInputs(
        unit="all",
        samples=table_ref(tmp_path / "samples", SAMPLES, rows),
        clips=(table_ref(tmp_path / "clips", CLIPS, [clip("real")]),),
    )


def test_dimensions_are_metrics_with_the_same_names() -> None:
    assert set(DIMENSIONS) <= set(METRICS)
    assert [d.name for d in select_dimensions(())] == sorted(
        {d.module for d in DIMENSIONS.values()}, key=[d.module for d in DIMENSIONS.values()].index
    )
    for name in ("overall_consistency", OVERALL):
        assert [d.metric for d in select_dimensions([name])] == [OVERALL]
    with pytest.raises(BadInput, match="unknown dimension motion_smoothness/raft"):
        select_dimensions(["motion_smoothness/raft"])


def test_the_stage_and_the_command_agree(
    inputs: scores_stage.ScoreInputs, weights_dir: Path, tmp_path: Path
) -> None:
    import torch

    settings = ScoreSettings(metrics=(OVERALL, BACKGROUND), weights=weights_dir, device="cpu")
    found = {
        (row["video_id"], row["metric"]): row
        for row in scores_stage.run(inputs, settings, tmp_path).rows
    }
    path = inputs.samples.folder / "samples" / "pan.mp4"
    jobs = [VideoJob("pan.mp4", path, "the cat runs")]
    evaluate.evaluate_videos(
        jobs,
        select_dimensions([OVERALL, BACKGROUND]),
        weights_dir,
        tmp_path / "t",
        torch.device("cpu"),
    )
    for row in tables.read(tmp_path / "t", evaluate.VBENCH):
        assert found["pan", row["metric"]]["value"] == pytest.approx(row["score"], abs=1e-6)
    assert found["real", BACKGROUND]["status"] == "ok"
    assert found["real", OVERALL]["status"] == "failed"
    assert "no prompt" in found["real", OVERALL]["detail"]


def test_missing_weights_are_reported_before_any_work(
    inputs: scores_stage.ScoreInputs, tmp_path: Path
) -> None:
    with pytest.raises(MissingModel, match=r"scores\.weights"):
        scores_stage.run(inputs, ScoreSettings(metrics=(BACKGROUND,)), tmp_path)
    settings = ScoreSettings(metrics=(BACKGROUND, OVERALL), weights=tmp_path)
    with pytest.raises(MissingModel, match="3 weights files are missing"):
        scores_stage.required_weights(settings)
    assert scores_stage.required_weights(ScoreSettings()) == ()


def test_the_models_command_names_each_file(weights_dir: Path, tmp_path: Path) -> None:
    def needs(folder: Path | None) -> dict[str, bool]:
        settings = ScoreSettings(metrics=(OVERALL, BACKGROUND), weights=folder)
        config = Config(library=tmp_path / "library.yaml", scores=settings)
        return {
            n.name: n.available for n in required_models(config, "benchmark") if n.stage == "scores"
        }

    files = {vbench_weights.VICLIP, vbench_weights.VOCABULARY, vbench_weights.CLIP_B}
    assert needs(weights_dir) == dict.fromkeys(files, True)
    assert needs(None) == dict.fromkeys(files, False)
