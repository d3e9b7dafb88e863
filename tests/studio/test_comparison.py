"""The walls of videos: what they show, and what they never give away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mimix_core.studio.checkpoint_walls import build_checkpoint_wall
from mimix_core.studio.comparison_wall import rank_by_intervals
from mimix_core.studio.training_runs import find_training_runs
from tests.studio.comparison_factory import (
    append_checkpoint,
    system_wall,
    write_comparison,
    write_training_run,
)
from tests.studio.studio_project import StudioProject, build_project

PROMPTS = ("[Character: Rinky], waves. [scene-style:cartoon]", "<script>document.title=7</script>")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StudioProject:
    return build_project(tmp_path_factory.mktemp("studio"))


def test_a_training_is_a_wall_of_its_checkpoints_and_grows(tmp_path: Path) -> None:
    folder = write_training_run(tmp_path, (0, 10), PROMPTS)
    [run] = find_training_runs(tmp_path)
    wall = build_checkpoint_wall(run)
    assert wall is not None
    assert [column.title for column in wall.columns] == ["Before training", "Step 10"]
    assert [row.prompt for row in wall.rows] == list(PROMPTS)
    assert all(video is not None for row in wall.rows for video in row.videos)
    append_checkpoint(folder, 20, PROMPTS[:1])
    grown = build_checkpoint_wall(run)
    assert grown is not None
    assert [video is not None for video in grown.rows[1].videos] == [True, True, False]
    [ranking] = grown.rankings
    assert [one.column for one in ranking.columns] == [2, 1, 0], "the least loss first"


def test_a_checkpoint_whose_adapter_is_kept_says_so(tmp_path: Path) -> None:
    folder = write_training_run(tmp_path, (0, 10), PROMPTS)
    kept = {"step": 10, "epoch": 2, "adapter": "epochs/epoch-0002/a.safetensors", "epoch_loss": 0.1}
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(kept) + "\n")
    [run] = find_training_runs(tmp_path)
    wall = build_checkpoint_wall(run)
    assert wall is not None
    titles = [column.title for column in wall.columns]
    assert titles == ["Before training", "Step 10 (adapter of epoch 2)"]


def test_checkpoints_with_overlapping_intervals_are_within_noise() -> None:
    ranking = rank_by_intervals(
        "loss", [(0, 0.9, (0.8, 1.0)), (1, 0.7, (0.6, 0.79)), (2, 0.75, (0.7, 0.8))], ""
    )
    assert [(one.column, one.within_noise) for one in ranking.columns] == [
        (1, True),
        (2, True),
        (0, False),
    ]
    unknown = rank_by_intervals("loss", [(0, 0.9, None), (1, 0.7, None)], "")
    assert [one.within_noise for one in unknown.columns] == [None, None]


def test_walls_are_served_without_any_path(project: StudioProject, tmp_path: Path) -> None:
    wall = system_wall(tmp_path / "hidden-folder", ["ours", "<b>x</b>"], {"p1": PROMPTS[0]})
    write_comparison(project.comparison, wall)
    write_training_run(project.workspace, (0,), PROMPTS)
    with project.client() as client:
        listed = client.get("/api/walls").json()
        assert listed[0]["id"] == "systems"
        assert sorted(one["rows"] for one in listed) == [1, 1, 2]
        text = client.get("/api/wall", params={"id": "systems"}).text
        assert "hidden-folder" not in text
        assert str(tmp_path) not in text
        shown = client.get("/api/wall", params={"id": "systems"}).json()
        assert [column["title"] for column in shown["columns"]] == ["ours", "<b>x</b>"]
        cell = {"id": "systems", "row": 0, "column": 1}
        whole = client.get("/compare/video", params=cell)
        part = client.get("/compare/video", params=cell, headers={"range": "bytes=4-11"})
        assert part.status_code == 206
        assert part.content == whole.content[4:12]
        sprite = client.get("/compare/sprite", params=cell)
        assert sprite.headers["content-type"] == "image/webp"
        assert "script-src 'self'" in client.get("/compare").headers["content-security-policy"]


@pytest.mark.parametrize(
    "cell",
    [
        {"id": "systems", "row": 7, "column": 0},
        {"id": "../../etc/passwd", "row": 0, "column": 0},
        {"id": "systems", "row": -1, "column": 0},
        {"id": "systems", "row": "0/../0", "column": 0},
    ],
)
def test_nothing_but_a_cell_is_served(
    project: StudioProject, tmp_path: Path, cell: dict[str, str | int]
) -> None:
    write_comparison(project.comparison, system_wall(tmp_path, ["ours"], {"p1": PROMPTS[0]}))
    with project.client() as client:
        for role in ("video", "sprite"):
            assert client.get(f"/compare/{role}", params=cell).status_code in (404, 422)


def test_a_preview_that_its_log_puts_outside_is_not_served(tmp_path: Path) -> None:
    folder = write_training_run(tmp_path, (0,), PROMPTS)
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"x")
    log = folder / "log.jsonl"
    log.write_text(log.read_text().replace("previews/step-000000/0.mp4", "../../../secret.mp4"))
    [run] = find_training_runs(tmp_path)
    wall = build_checkpoint_wall(run)
    assert wall is not None
    assert [row.videos[0] is not None for row in wall.rows] == [False, True]
