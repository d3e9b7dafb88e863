"""What is counted and measured beside the judge's verdict."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from mimix_core.wan.generation.provenance import write_video
from miniature import figure_count, judge, renderer, scenes
from miniature.judge_training import load_judge
from miniature.sizes import Sizes
from miniature.study import figures, metrics
from miniature.study.scoring import VideoRow
from miniature.training_run import Run
from miniature.unpack_weights import WEIGHTS

MEASURED = figures.RESULTS / "miniature_metrics.csv"


def _cells(*boxes: tuple[slice, slice, int]) -> dict[str, torch.Tensor]:
    """Return a judge's outputs that show a figure with one value of every attribute in each box."""
    outputs = {name: torch.zeros(1, size, *judge.CELLS) for name, size in judge.DENSE.items()}
    outputs["figure"][:, 0] = 5
    for rows, columns, value in boxes:
        outputs["figure"][:, :, :, rows, columns] = torch.tensor([-5.0, 5.0]).view(1, 2, 1, 1, 1)
        for name, size in judge.DENSE.items():
            if name != "figure":
                one_hot = torch.zeros(size).index_fill(0, torch.tensor(value % size), 9)
                outputs[name][:, :, :, rows, columns] = one_hot.view(1, -1, 1, 1, 1)
    return outputs


@pytest.mark.parametrize(
    ("boxes", "count"),
    [
        ([], 0),
        ([(slice(5, 15), slice(2, 7), 0)], 1),
        ([(slice(5, 15), slice(2, 7), 0), (slice(5, 15), slice(9, 14), 0)], 2),
        ([(slice(5, 15), slice(2, 7), 0), (slice(5, 15), slice(7, 12), 1)], 2),
        ([(slice(5, 15), slice(2, 7), 0), (slice(5, 7), slice(20, 24), 1)], 1),
    ],
    ids=["nobody", "one", "apart", "touching", "a smear"],
)
def test_figures_are_counted_by_touching_cells_and_attributes(
    boxes: list[tuple[slice, slice, int]], count: int
) -> None:
    assert figure_count.count_figures(_cells(*boxes)) == [count]


@pytest.mark.e2e
def test_figures_of_renders_are_counted_and_a_third_one_is_found() -> None:
    model, _ = load_judge(Run(torch.device("cpu"), WEIGHTS, WEIGHTS, Sizes()))
    rng = random.Random("count")
    drawn = [judge.draw_judged_scene(rng) for _ in range(16)]
    with torch.inference_mode():
        video = renderer.render(scenes.to_tensors(drawn))
        counts = figure_count.count_figures(model(video.frames_BCTHW))
    right = [len(scene.cast) == count for scene, count in zip(drawn, counts, strict=True)]
    assert np.mean(right) >= 0.9
    assert all(count <= len(scene.cast) for scene, count in zip(drawn, counts, strict=True))


@pytest.fixture(scope="module")
def rows() -> list[VideoRow]:
    return figures.read_csv(figures.RESULTS / "miniature_videos.csv")


def test_the_table_of_metrics_is_in_the_docs(rows: list[VideoRow]) -> None:
    table = metrics.markdown(metrics.read_measured(MEASURED), rows)
    assert table.strip() in (figures.ROOT / "docs" / "miniature.md").read_text()


def test_metrics_that_follow_the_verdict_are_told_from_those_that_do_not(
    rows: list[VideoRow],
) -> None:
    """The first metric is better for every kept video, the second is the same for all."""
    some = [row for row in rows if row["kind"] == "cross-style"][::5]
    lower_is_better = "imaging_quality/brisque"
    measured = []
    for row in some:
        values = dict.fromkeys(metrics.METRICS, 0.5)
        values["subject_consistency/efficientnet-lite0"] = float(row["all_kept"])
        values[lower_is_better] = 1 - float(row["all_kept"])
        measured.append(
            metrics.MeasuredVideo(
                row["arm"], row["seed"], row["prompt_id"], tuple(values.values()), 2
            )
        )
    lines = {
        line.split("|")[1].strip().split("`")[1]: line.split("|")[-2].strip()
        for line in metrics.markdown(measured, rows).splitlines()
        if "`" in line
    }
    assert lines[lower_is_better] == lines["subject_consistency/efficientnet-lite0"] == "1.00"
    assert lines["dynamic_degree/dis-flow"] == "0.50"


@pytest.mark.e2e
def test_a_measured_video_is_not_measured_again(rows: list[VideoRow], tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (17, 80, 128, 3), dtype=np.uint8)
    write_video(tmp_path / "one.mp4", frames)
    row: VideoRow = {**rows[0], "file": str(tmp_path / "one.mp4")}
    metrics.measure_missing(tmp_path / "measured.csv", [row])
    (first,) = metrics.read_measured(tmp_path / "measured.csv")
    assert first.key == (row["arm"], row["seed"], row["prompt_id"])
    (tmp_path / "one.mp4").unlink()
    metrics.measure_missing(tmp_path / "measured.csv", [row])
    assert metrics.read_measured(tmp_path / "measured.csv") == [first]
