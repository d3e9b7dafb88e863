"""Captions of composites: without things that were not pasted, by hand, and vetoed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.augment import augment_stages
from flows.cli import app
from flows.composite_captions import load_composite_captions
from flows.curate import curate_stages
from mimix_core import tables
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import load_config
from mimix_core.tables import Row
from tasks.cached_run import ReadOnlyRun
from tests.flows.small_project import SETTINGS, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    settings = SETTINGS.replace("backend: grabcut", "backend: grabcut, min_box_coverage: 0.2")
    made.settings.write_text(settings + "captions: {overrides: hand.jsonl}\n")
    made.add_show("toons", "cartoon", "Tom", acts=True, seed=1)
    made.add_show("people", "realistic", "Clara", acts=True, seed=2)
    script = (made.folder / "people.yaml").read_text()
    (made.folder / "people.yaml").write_text(
        script.replace('"walks"', '"walks with a smile beside a bubble tea"')
    )
    made.run()
    return made


def call(project: Project, *arguments: object) -> Result:
    command = ["captions", *(str(one) for one in arguments)]
    command.insert(2, str(project.settings))
    return CliRunner().invoke(app, command, env={"COLUMNS": "200"})


def composite_rows(project: Project) -> dict[str, Row]:
    """The composites in the dataset, by id."""
    run = ReadOnlyRun(open_workspace(load_config(project.settings)))
    path = augment_stages(run, curate_stages(run)).dataset.path
    rows: list[Row] = [{**row} for row in tables.usable(tables.read(path, tables.DATASET))]
    return {row["sample_id"]: row for row in rows if row["kind"] == "composite"}


def test_captions_of_composites_by_hand_and_vetoes(project: Project, tmp_path: Path) -> None:
    made = composite_rows(project)
    assert len(made) == 2
    guest = {row["pasted"]: name for name, row in made.items()}
    # The bubble tea stayed in the other scene; in its own scene it is still there.
    assert made[guest["Clara"]]["caption"] == (
        "[Character: Tom], walks. [Character: Clara], walks with a smile. [scene-style:cartoon]"
    )
    assert "beside a bubble tea" in made[guest["Tom"]]["caption"]

    result = call(project, "export", tmp_path / "out", "--composites")
    assert result.exit_code == 0, result.output
    path = tmp_path / "out" / "captions.jsonl"
    lines = {row["clip_id"]: row for row in map(json.loads, path.read_text().splitlines())}
    assert set(lines) == set(made)
    assert all(Path(line["video_path"]).is_file() for line in lines.values())
    changed = lines[guest["Clara"]]
    changed["caption"] = "[Character: Tom], walks. [Character: Nobody], sits. [scene-style:cartoon]"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines.values()))
    result = call(project, "import", path)
    assert result.exit_code == 2
    assert "no character here is named 'Nobody'" in result.output
    assert "'Clara' is in the clip but has no action" in result.output
    changed["caption"] = "[Character: Clara], grins. [Character: Tom], walks. [scene-style:cartoon]"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines.values()))
    # Twice: the second time before any run with the first.
    for _ in range(2):
        result = call(project, "import", path)
        assert result.exit_code == 0, result.output
        assert "1 captions edited" in result.output
    assert project.run() == {"recaptions all", "dataset all"}
    after = composite_rows(project)
    assert after[guest["Clara"]]["caption"] == changed["caption"]
    assert after[guest["Clara"]]["caption_backend"] == "hand"
    assert after[guest["Tom"]] == made[guest["Tom"]]

    result = call(project, "veto", guest["Tom"])
    assert result.exit_code == 0, result.output
    assert project.run() == {"composites all", "recaptions all", "dataset all"}
    # There is no other pair to replace it; the caption by hand is kept.
    left = composite_rows(project)
    assert list(left) == [guest["Clara"]]
    assert left[guest["Clara"]]["caption"] == changed["caption"]
    run = ReadOnlyRun(open_workspace(load_config(project.settings)))
    assert guest["Tom"] not in load_composite_captions(run).captions
    why = CliRunner().invoke(app, ["why", str(project.settings), guest["Tom"]])
    assert "left out by hand" in why.output

    assert call(project, "veto", "--undo", guest["Tom"]).exit_code == 0
    assert project.run() == set(), "the results of before are used"
    assert composite_rows(project) == after
    result = call(project, "veto", "nothing-on-nothing")
    assert result.exit_code == 2
    assert "no such clip or composite: nothing-on-nothing" in result.output
