"""The walls of systems, from folders and tables as ``mimix studio --system`` gets them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import studio_cli
from flows.cli import app
from flows.studio_cli import read_comparison, read_index
from mimix_core.errors import BadInput
from mimix_core.studio.comparison_wall import ComparisonFile
from tests.benchmark.tables import factories
from tests.benchmark.tables.factories import QUALITY
from tests.deployments.project_factory import write_project
from tests.media_factory import Shot, write_video


def test_systems_become_a_wall_with_scores_and_a_ranking(tmp_path: Path) -> None:
    settings = write_project(tmp_path / "project")
    systems, scores = [], []
    for number, name in enumerate(("base", "tuned")):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / "tom-runs.mp4", [Shot(16)])
        table = factories.scores(
            tmp_path / f"{name}.parquet", {QUALITY: {"tom-runs": 40.0 + number}}
        )
        systems.append(f"{name}={tmp_path / name}")
        scores.append(f"{name}={table}")
    path = read_comparison(settings, None, systems, None, scores, [])
    assert path is not None
    assert path.parent == tmp_path / "project" / "workspace" / "studio"
    [wall] = ComparisonFile.model_validate_json(path.read_bytes()).walls
    assert [column.title for column in wall.columns] == ["base", "tuned"]
    [row] = wall.rows
    assert row.id == "tom-runs"
    assert row.prompt.startswith("[Character: Tom], runs")
    assert [video and video.scores for video in row.videos] == [{QUALITY: 40.0}, {QUALITY: 41.0}]
    assert row.videos[0] is not None
    assert row.videos[0].frames == 16
    [ranking] = wall.rankings
    assert [one.column for one in ranking.columns] == [1, 0]
    assert ranking.columns[1].within_noise, "one prompt tells nothing"
    with pytest.raises(BadInput) as refused:
        read_comparison(settings, None, ["x=/nowhere"], None, [], [])
    assert str(refused.value) == "system x=/nowhere: no such folder. Check the path."
    with pytest.raises(BadInput, match="no systems to compare"):
        read_comparison(settings, None, [], None, scores, [])
    assert read_comparison(settings, None, [], None, [], []) is None


def test_a_library_that_cannot_be_read_is_one_message(tmp_path: Path) -> None:
    settings = write_project(tmp_path / "project")
    (tmp_path / "project" / "library.yaml").write_text("shows: []\n")
    with pytest.raises(BadInput, match=r"library\.yaml") as refused:
        read_index(settings, None)
    assert "Traceback" not in str(refused.value)


def test_a_mistyped_system_is_refused_before_any_result_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> Path:
        raise AssertionError("the index is read")

    monkeypatch.setattr(studio_cli, "read_index", read)
    settings = write_project(tmp_path / "project")
    (tmp_path / "project" / "library.yaml").write_text("shows: []\n")
    asked = ["studio", str(settings), "--port", "0", "--system", "x=/nowhere"]
    refused = CliRunner().invoke(app, asked, env={"COLUMNS": "200"})
    assert refused.exit_code == 2, refused.output
    assert "error system x=/nowhere: no such folder. Check the path." in refused.output
