"""``mimix captions`` on a small workspace, computed by the real stages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from prefect.tasks import Task
from typer.testing import CliRunner, Result

from flows.captions_cli import app
from flows.curate import CuratedTables, curate_stages
from mimix_core import tables
from mimix_core.engine import registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.stage import run_stage
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import load_config
from tasks.base import Run
from tests.media_factory import Shot, write_video

runner = CliRunner()

SETTINGS = """\
library: library.yaml
workspace: workspace
overlays: {backend: none}
clips: {width: 160, height: 96, preset: ultrafast, min_motion: 0, min_sharpness: 0}
captions: {overrides: hand.jsonl}
"""
LIBRARY = """\
shows:
  - id: toons
    title: Toons
    style: cartoon
    characters: [{name: Tom, description: A cat}, {name: Jerry, aliases: [the mouse]}]
    episodes: [{path: a.mp4, script: a.yaml}]
"""
SCRIPT = """\
actions:
  - {start: "0", end: "6", character: Tom, action: "runs"}
  - {start: "6", end: "30", character: Jerry, action: "hides"}
"""


class InProcess(Run):
    """Runs each stage in this process."""

    def run_units(
        self, submit: Task[..., TableRef], inputs: Sequence[FrozenModel], settings: FrozenModel
    ) -> list[TableRef]:
        stage = registry.get_stage(str(submit.name))
        return [run_stage(self.workspace.store, stage, one, settings).ref for one in inputs]


def curated(settings: Path) -> CuratedTables:
    return curate_stages(InProcess(open_workspace(load_config(settings))))


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captions")
    write_video(folder / "a.mp4", [Shot(24 * 12)], size=(160, 96))
    (folder / "library.yaml").write_text(LIBRARY)
    (folder / "a.yaml").write_text(SCRIPT)
    (folder / "mimix.yaml").write_text(SETTINGS)
    curated(folder / "mimix.yaml")
    return folder


@pytest.fixture
def project(computed: Path, tmp_path: Path) -> Path:
    """A copy of the workspace in which cached results are valid too."""
    shutil.copytree(computed, tmp_path / "p", symlinks=True)
    return tmp_path / "p" / "mimix.yaml"


def call(*arguments: object) -> Result:
    return runner.invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})


def captions(settings: Path) -> dict[str, tables.Row]:
    return {
        row["clip_id"]: row
        for ref in curated(settings).captions
        for row in tables.read(ref.path, tables.CAPTIONS)
    }


def test_an_edited_export_is_imported_into_the_table(project: Path, tmp_path: Path) -> None:
    before = captions(project)
    assert len(before) == 2
    result = call("export", project, tmp_path / "out")
    assert result.exit_code == 0, result.output
    path = tmp_path / "out" / "captions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["clip_id"] for line in lines} == set(before)
    assert all(Path(line["video_path"]).is_file() for line in lines)
    # Untouched, it changes nothing.
    assert call("import", project, tmp_path / "out").exit_code == 0
    assert captions(project) == before
    lines[0]["caption"] = "[Character: Jerry], dances. [scene-style:cartoon]"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = call("import", project, path)
    assert result.exit_code == 0, result.output
    assert "1 captions edited" in result.output
    after = captions(project)
    first = lines[0]["clip_id"]
    assert (after[first]["caption"], after[first]["backend"]) == (lines[0]["caption"], "hand")
    assert after[lines[1]["clip_id"]] == before[lines[1]["clip_id"]]


def test_a_second_import_needs_no_run_in_between(project: Path, tmp_path: Path) -> None:
    call("export", project, tmp_path / "out", "--format", "txt")
    one, two = sorted((tmp_path / "out").glob("*.txt"))
    for path, action in ((one, "sleeps"), (two, "eats")):
        text = path.read_text()
        path.write_text(f"[Character: Tom], {action}. [scene-style:cartoon]")
        result = call("import", project, tmp_path / "out")
        assert result.exit_code == 0, result.output
        path.write_text(text)
    after = captions(project)
    assert "sleeps" in after[one.stem]["caption"] and "eats" in after[two.stem]["caption"]


def test_an_alias_in_a_tag_is_read_as_the_character(project: Path, tmp_path: Path) -> None:
    call("export", project, tmp_path / "out", "--format", "txt")
    one, two = sorted((tmp_path / "out").glob("*.txt"))
    one.write_text("[Character: The Mouse], eats. [scene-style:cartoon]")
    result = call("import", project, tmp_path / "out")
    assert result.exit_code == 0, result.output
    with (project.parent / "hand.jsonl").open("a") as file:
        caption = "[Character: the mouse], hides. [scene-style:cartoon]"
        file.write(json.dumps({"clip_id": two.stem, "caption": caption}) + "\n")
    after = captions(project)
    assert after[one.stem]["caption"] == "[Character: Jerry], eats. [scene-style:cartoon]"
    assert after[two.stem]["caption"] == "[Character: Jerry], hides. [scene-style:cartoon]"


def test_a_folder_as_overrides_file_is_refused(project: Path, tmp_path: Path) -> None:
    (project.parent / "hand.jsonl").mkdir()
    result = call("export", project, tmp_path / "out")
    assert result.exit_code == 2
    assert "captions.overrides" in result.output and "is not a file" in result.output


def test_edited_sidecars_are_imported(project: Path, tmp_path: Path) -> None:
    result = call("export", project, tmp_path / "out", "--format", "txt", "--copy")
    assert result.exit_code == 0, result.output
    one, two = sorted((tmp_path / "out").glob("*.txt"))
    one.write_text("[Character: Tom], sleeps. [scene-style:cartoon]\n")
    two.write_text("")
    assert call("import", project, tmp_path / "out").exit_code == 0
    after = captions(project)
    assert after[one.stem]["caption"] == "[Character: Tom], sleeps. [scene-style:cartoon]"
    assert after[two.stem]["reason"] == "left_out_by_hand"


def test_a_caption_that_would_fail_is_not_imported(project: Path, tmp_path: Path) -> None:
    call("export", project, tmp_path / "out", "--format", "txt")
    one, two = sorted((tmp_path / "out").glob("*.txt"))
    one.write_text("[Character: Spike], barks. [scene-style:cartoon]")
    two.write_text("[Character: Tom], sleeps. [scene-style:realistic]")
    result = call("import", project, tmp_path / "out")
    assert result.exit_code == 2
    assert "no character here is named 'Spike'" in result.output
    assert "the style is realistic" in result.output
    assert not (project.parent / "hand.jsonl").exists()


def test_variants_are_the_arms_of_table_2(project: Path, tmp_path: Path) -> None:
    call("export", project, tmp_path / "out", "--format", "txt", "--variant", "no-tags")
    texts = sorted(path.read_text() for path in (tmp_path / "out").glob("*.txt"))
    assert texts[0].startswith("Jerry hides.") or texts[0].startswith("Tom runs.")
    assert not any("[" in text for text in texts)
    assert "0 captions edited" in call("import", project, tmp_path / "out").output


def test_check_reports_invalid_captions(project: Path, tmp_path: Path) -> None:
    result = call("check", project)
    assert result.exit_code == 0, result.output
    assert "2 captions, no problems" in result.output
    call("export", project, tmp_path / "out")
    path = tmp_path / "out" / "captions.jsonl"
    path.write_text(path.read_text().replace("Tom", "Spike"))
    result = call("check", project, path)
    assert result.exit_code == 1
    assert "no character here is named 'Spike'" in result.output
    (table,) = (project.parent / "workspace").glob("store/captions/*/table.parquet")
    assert call("check", project, table).exit_code == 0
    result = call("check", project, project)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_estimate_prints_clips_and_cost(project: Path) -> None:
    assert call("estimate", project).exit_code == 2
    settings = SETTINGS.replace("captions: {", "captions: {backend: vlm, ")
    project.write_text(settings)
    result = call("estimate", project)
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if "toons" in line)
    assert [cell.strip() for cell in row.split("│")[1:3]] == ["toons", "2"]
    assert "The model's price" not in result.output
    project.write_text(settings.replace("backend: vlm,", "backend: vlm, vlm: {model: mine},"))
    assert "The model's price is unknown" in call("estimate", project).output
    # Before clips are cut, the episodes' durations bound their number: 12 s are two clips.
    project.write_text(settings.replace("width: 160, height: 96", "width: 320, height: 192"))
    result = call("estimate", project)
    assert "up to 2" in result.output


def test_missing_results_are_a_clear_error(project: Path, tmp_path: Path) -> None:
    result = call("export", project, tmp_path / "out", "--workspace", tmp_path / "empty")
    assert result.exit_code == 2
    assert f"{tmp_path}/empty: no scenes of a with these settings" in result.output


def test_edits_are_not_overwritten_and_not_guessed(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("export", project, out).exit_code == 0
    text = (out / "captions.jsonl").read_text()
    (out / "captions.jsonl").write_text(text + "\n")
    assert call("export", project, out).exit_code == 2
    assert (out / "captions.jsonl").read_text() == text + "\n"
    (out / "x.txt").write_text("")
    for source in (out, tmp_path / "nowhere", tmp_path):
        assert call("import", project, source).exit_code == 2


def test_a_new_show_title_captions_no_scripted_clip_again(project: Path, tmp_path: Path) -> None:
    (before,) = curated(project).captions
    library = project.parent / "library.yaml"
    library.write_text(library.read_text().replace("title: Toons", "title: Cartoons"))
    (after,) = curated(project).captions
    assert after.key == before.key
    assert call("export", project, tmp_path / "out").exit_code == 0


def test_no_caption_at_all_is_not_all_well(project: Path) -> None:
    """A script that names nobody known in time: every clip is rejected, and that is said."""
    (project.parent / "a.yaml").write_text("actions: []\n")
    curated(project)
    result = call("check", project)
    assert result.exit_code == 1, result.output
    assert "no problems" not in result.output
    assert "0 captions, nothing to check; 2 clips without" in result.output
    assert "2 rejected: no_action_in_script" in result.output
    assert "There is no caption to check" in result.output
