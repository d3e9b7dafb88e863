"""``mimix why`` and ``mimix report`` on a workspace of which only some stages have run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from mimix_core import tables
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import load_config
from tests.media_factory import Shot, write_video
from tests.stages.captions.test_cli import InProcess

runner = CliRunner()

SETTINGS = """\
library: library.yaml
workspace: workspace
overlays: {backend: none}
clips: {width: 160, height: 96, preset: ultrafast, min_motion: 0, min_sharpness: 0}
"""
LIBRARY = """\
shows:
  - id: toons
    title: Toons
    style: cartoon
    characters: [{name: Tom, description: A cat}]
    episodes: [{path: a.mp4}, {path: b.mp4}]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of one shot each; 7 s is long enough for a clip, 3 s and 2 s are not."""
    folder = tmp_path_factory.mktemp("why")
    write_video(folder / "a.mp4", [Shot(24 * 7), Shot(24 * 3)], size=(160, 96))
    write_video(folder / "b.mp4", [Shot(24 * 2)], size=(160, 96))
    (folder / "library.yaml").write_text(LIBRARY)
    (folder / "mimix.yaml").write_text(SETTINGS)
    return folder / "mimix.yaml"


@pytest.fixture(scope="module")
def cut(project: Path) -> Path:
    """The project after scenes, overlays and clips; captions have not run."""
    from tasks.clips import cut_clips
    from tasks.overlays import detect_overlays
    from tasks.scenes import detect_scenes

    run = InProcess(open_workspace(load_config(project)))
    scenes = detect_scenes(run)
    cut_clips(run, scenes, detect_overlays(run, scenes))
    return project


def call(*arguments: object) -> Result:
    return runner.invoke(app, [str(one) for one in arguments], env={"COLUMNS": "60"})


def test_without_results_it_says_what_to_run_first(project: Path, tmp_path: Path) -> None:
    result = call("why", project, "--workspace", tmp_path)
    assert result.exit_code == 0, result.output
    assert "no scenes of a and 1 others" in result.output
    assert "mimix curate" in result.output


def test_the_reasons_of_every_stage_with_their_figures(cut: Path) -> None:
    result = call("why", cut)
    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.splitlines() if "scene_too_short" in line)
    words = r"2 rejected: scene_too_short: ([\d.]+) to ([\d.]+) s long, 5.1625 s .*clips\.frames"
    found = re.search(words, line)
    assert found, result.output
    assert float(found[1]) == pytest.approx(2, abs=0.1)
    assert float(found[2]) == pytest.approx(3, abs=0.1)
    assert "no duplicates of all" in result.output


@pytest.mark.parametrize("words", [("clips", "b"), ("b",)])
def test_an_episode_is_named_by_its_name_or_id(cut: Path, words: tuple[str, ...]) -> None:
    result = call("why", cut, *words)
    assert result.exit_code == 0, result.output
    assert result.output.count("scene_too_short") == 1
    assert ("scenes" in result.output.split()) == (len(words) == 1)
    episode = next(e for e in open_workspace(load_config(cut)).episodes if e.name == "b")
    assert call("why", cut, *words[:-1], episode.id).output.count("scene_too_short") == 1


def test_rows_of_scenes_and_clips_say_where_in_the_episode_they_are(cut: Path) -> None:
    """Episode a has shots of 7 and of 3 s: the second begins at 7 s."""
    for stage in ("scenes", "clips"):
        lines = call("why", cut, stage, "a").output.splitlines()
        assert [re.search(r" at (\S+)", line)[1] for line in lines] == ["0:00:00.0", "0:00:07.0"]  # type: ignore[index]


def test_a_clip_is_named_by_its_id_and_a_typo_lists_what_there_is(cut: Path) -> None:
    tables_found = (cut.parent / "workspace" / "store" / "clips").glob("*/table.parquet")
    rows = [row for path in tables_found for row in tables.read(path, tables.CLIPS)]
    [clip] = [row["clip_id"] for row in rows if row["status"] == "ok"]
    result = call("why", cut, clip)
    [line] = [line for line in result.output.splitlines() if line.startswith("clips")]
    assert line.split() == ["clips", clip, "at", "0:00:00.0", "ok"]
    assert call("why", cut, clip).exit_code == 0
    result = call("why", cut, "nothing-like-this")
    assert result.exit_code == 2
    assert "Episodes: a, b" in result.output
    result = call("why", cut, "cliqs", "a")
    assert result.exit_code == 2
    assert "cliqs is not a stage" in result.output


def test_a_report_after_any_stage_in_which_clips_play_whole(cut: Path) -> None:
    result = call("report", cut)
    assert result.exit_code == 0, result.output
    page = cut.parent / "workspace" / "report" / "index.html"
    assert f"Report: {page}" in result.output.splitlines(), "the path is on one line, complete"
    text = page.read_text()
    for section in ("episodes", "clips"):
        assert f'<section id="{section}"' in text
    for section in ("cutouts", "training", "scores"):
        assert f'<section id="{section}"' not in text
        assert f'href="#{section}"' not in text
    assert "Not run yet with these settings and this library: Captions" in text
    [video] = re.findall(r'href="(videos/clip-[^"]+)"', text)
    [clip] = (cut.parent / "workspace" / "store" / "clips").glob("*/clips/*.mp4")
    assert (page.parent / video).read_bytes() == clip.read_bytes()
    assert os.access(page, os.R_OK)
