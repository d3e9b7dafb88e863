"""What a change of library or settings computes again, and that ``mimix plan`` says it before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.project.item_decisions import (
    DecisionLog,
    ItemKind,
)
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import load_config
from tests.flows.small_project import Project, decide, rows_of
from tests.media_factory import Shot, write_video


def plan(project: Project) -> tuple[dict[str, tuple[int, int, int]], str]:
    """Call ``mimix plan``; return cached, compute and perhaps by stage, and the output."""
    command = ["plan", str(project.settings), "--flow", "augment"]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "60"})
    assert result.exit_code == 0, result.output
    assert "Not planned further" not in result.output, "the backbone, which augment needs not"
    lines = re.findall(
        r"^  (\w+) +(\d+) cached, (\d+) compute, (\d+) perhaps", result.output, re.MULTILINE
    )
    return {name: (int(a), int(b), int(c)) for name, a, b, c in lines}, result.output


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two shows, computed up to the dataset."""
    made = Project(tmp_path_factory.mktemp("project"))
    made.add_show("toons", "cartoon", "Tom", acts=True, seed=1)
    made.add_show("people", "realistic", "Clara", acts=True, seed=2)
    planned, text = plan(made)
    assert planned["scenes"] == (0, 2, 0)
    assert "not computed yet" in text
    assert "have not run here" in text, "no time is invented"
    assert {"cutouts toons", "composites all"} <= made.run()
    return made


def test_an_unchanged_project_has_nothing_to_compute(project: Project) -> None:
    planned, text = plan(project)
    assert all(counts[1:] == (0, 0) for counts in planned.values())
    assert "Nothing to compute" in text
    assert project.run() == set()


def test_a_new_character_that_no_clip_names_cuts_nothing_out_again(project: Project) -> None:
    project.shows["toons"][1].append("Jerry")
    project.write()
    planned, text = plan(project)
    assert planned["captions"] == (1, 1, 0)
    assert "inputs.roster changed" in text
    assert planned["cutouts"] == (1, 0, 1), "only if the captions change, which they do not"
    assert project.run() == {"captions toons"}


def test_a_new_show_without_captions_renders_no_composite_again(project: Project) -> None:
    project.add_show("silent", "cartoon", "Mime", acts=False, seed=3)
    planned, _ = plan(project)
    assert planned["scenes"] == (2, 1, 0)
    assert planned["captions"] == (2, 1, 0)
    computed = project.run()
    assert {"scenes silent", "clips silent", "duplicates all"} <= computed
    assert not {unit for unit in computed if unit.startswith(("composites", "recaptions"))}
    assert {unit for unit in computed if unit.split()[0] in ("captions", "cutouts")} == {
        "captions silent",
        "cutouts silent",
    }


def test_a_changed_setting_is_named_with_its_values(project: Project) -> None:
    text = project.settings.read_text()
    project.settings.write_text(text.replace("min_motion: 0,", "min_motion: 0.25,"))
    planned, output = plan(project)
    project.settings.write_text(text)
    count = len(project.shows)
    assert planned["scenes"] == (count, 0, 0)
    assert planned["clips"] == (0, count, 0)
    assert "settings.min_motion 0.0 -> 0.25" in output
    assert re.search(r"\d+ units to compute.* about \d+ s", output)
    assert project.run() == set(), "a plan computes nothing and removes nothing"


@pytest.fixture
def decisions(project: Project) -> Iterator[DecisionLog]:
    """The file of decisions, empty before and after."""
    project.run()
    log = DecisionLog(load_config(project.settings).decisions)
    yield log
    log.path.unlink()


def test_an_edited_caption_is_used_and_cuts_nothing_out_again(
    project: Project, decisions: DecisionLog
) -> None:
    clip = next(row["clip_id"] for row in rows_of(project, "captions") if row["caption"])
    written = "[Character: Tom], dances. [scene-style:cartoon]"
    edit = decide(decisions, ItemKind.CLIP, clip, "edit", caption=written)
    assert project.run() == {
        "captions toons",
        "composites all",
        "recaptions all",
        "dataset all",
    }
    rows = {row["sample_id"]: row for row in rows_of(project, "dataset")}
    assert (rows[clip]["caption"], rows[clip]["caption_backend"]) == (written, "hand")
    decide(decisions, ItemKind.CLIP, clip, "undo", undoes=edit.decision_id)
    assert project.run() == set(), "what was computed before the edit is there still"


def test_a_rejected_clip_leaves_the_dataset_and_nothing_before_is_computed_again(
    project: Project, decisions: DecisionLog
) -> None:
    clip = next(row["clip_id"] for row in rows_of(project, "captions") if row["caption"])
    decide(decisions, ItemKind.CLIP, clip, "reject", reason="a logo")
    assert project.run() == {"composites all", "recaptions all", "dataset all"}
    row = next(row for row in rows_of(project, "dataset") if row["sample_id"] == clip)
    assert (row["reason"], row["detail"]) == ("left_out_by_hand", "left out by hand: a logo")
    made = [row for row in rows_of(project, "composites") if row["status"] == "ok"]
    assert not any(clip in (r["source_clip_id"], r["background_clip_id"]) for r in made)


def test_an_approval_computes_nothing(project: Project, decisions: DecisionLog) -> None:
    clip = rows_of(project, "clips")[0]["clip_id"]
    decide(decisions, ItemKind.CLIP, clip, "approve")
    assert project.run() == set()


def test_an_empty_validation_split_is_said_once_with_what_to_do(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.run()
    assert "validation" not in capsys.readouterr().out, "none was asked for"
    text = project.settings.read_text()
    project.settings.write_text(text.replace("val_share: 0", "val_share: 0.25"))
    project.run()
    project.settings.write_text(text)
    output = capsys.readouterr().out
    assert output.count("the validation split is empty") == 1, "each show has one episode"
    assert "Add an episode" in output
    assert "dataset.val_share" in output


def test_a_character_of_some_episodes_changes_only_those(tmp_path: Path) -> None:
    write_video(tmp_path / "one.mp4", [Shot(24)], size=(160, 96))
    write_video(tmp_path / "two.mp4", [Shot(30)], size=(160, 96))
    (tmp_path / "mimix.yaml").write_text("library: library.yaml\n")
    (tmp_path / "library.yaml").write_text(
        "shows:\n  - id: toons\n    title: Toons\n    style: cartoon\n"
        "    characters: [{name: Tom}, {name: Guest, episodes: ['tw*']}]\n"
        "    episodes: [{path: '*.mp4'}]\n"
    )
    episodes = open_workspace(load_config(tmp_path / "mimix.yaml")).episodes
    assert {e.name: e.show.roster() for e in episodes} == {
        "one": ("Tom",),
        "two": ("Tom", "Guest"),
    }
