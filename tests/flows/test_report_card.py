"""``mimix bench card`` on a project of generated episodes, and on videos of another system."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from flows import cached_results
from flows.cached_results import CachedResults, collect_cached_results
from flows.cli import app
from mimix_core import tables
from mimix_core.benchmark.promptsets.prompt_generator import prompts_to_yaml
from mimix_core.domain.prompts import PromptFile
from mimix_core.tables import CHARACTER_SCORES, SAMPLES, Reason, Row
from tests.benchmark.report_card.factories import prompt, score, unscored, write_noise
from tests.factories import table_ref
from tests.flows.small_project import Project, rows_of

runner = CliRunner()


def bench_card(settings: Path, *arguments: object) -> Result:
    return runner.invoke(app, ["bench", "card", str(settings), *map(str, arguments)])


def test_a_system_needs_videos_prompts_and_scores(tmp_path: Path) -> None:
    result = bench_card(tmp_path / "mimix.yaml", "--out", tmp_path, "--system", f"ours={tmp_path}")
    assert result.exit_code == 2
    assert "needs its videos, their prompts and their scores" in result.output


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two shows, and composites of their two characters."""
    made = Project(tmp_path_factory.mktemp("project"))
    made.add_show("toons", "cartoon", "Tom", acts=True, seed=1)
    made.add_show("people", "realistic", "Clara", acts=True, seed=2)
    made.run()
    return made


@pytest.mark.e2e
def test_the_card_leads_to_the_projects_clips_and_composites(
    project: Project, tmp_path: Path
) -> None:
    [clip] = [row["clip_id"] for row in rows_of(project, "clips") if row["show"] == "toons"]
    composites = [row for row in rows_of(project, "dataset") if row["kind"] == "composite"]
    used = [row["sample_id"] for row in composites if row["status"] == "ok"]
    write_noise(tmp_path / "videos" / "p1.mp4", 1)
    prompts = tmp_path / "prompts.yaml"
    asked = PromptFile(prompts=(prompt("p1", ["Tom", "Clara"]), prompt("p2", ["Tom", "Clara"])))
    prompts.write_text(prompts_to_yaml(asked))
    rows = [
        score("p1", "Tom", nearest_clip=clip, nearest_frame=3, copy_similarity=0.5),
        score("p1", "Clara", "swapped", looks_like="Tom"),
    ]
    scores = table_ref(tmp_path / "scores", CHARACTER_SCORES, rows).path
    arguments = ["--system", f"other={tmp_path / 'videos'}", "--prompts", prompts]
    out = tmp_path / "card"
    result = bench_card(project.settings, *arguments, "--scores", scores, "--out", out)
    assert result.exit_code == 0, result.output
    assert "1 video with several characters, 1 of 2 cells with videos" in result.output
    training = pq.read_table(out / "training.parquet").to_pylist()
    found = {row["kind"]: row["sample_id"] for row in training}
    assert used
    assert found["nearest-frame"] == clip
    assert found["composite"] in used
    assert f"{clip}.mp4#t=0.188" in (out / "index.html").read_text()
    assert "how it was made" in (out / "index.html").read_text()


@pytest.mark.e2e
def test_the_card_of_a_run_has_its_own_samples(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generating takes minutes: tables of samples and scores are put beside the project's own."""
    prompts = tmp_path / "prompts.yaml"
    asked = PromptFile(prompts=(prompt("p1", ["Tom", "Clara"]), prompt("p2", ["Tom", "Clara"])))
    prompts.write_text(prompts_to_yaml(asked))
    write_noise(tmp_path / "samples" / "p1.mp4", 1)
    columns: Row = {
        "category": "inter-series",
        "prompt": "",
        "characters": ["Tom", "Clara"],
        "backbone": "test",
        "seed": 0,
        "sha256": "",
        "frames": 9,
        "width": 64,
        "height": 48,
    }
    rows = [
        tables.ok(prompt_id="p1", file="p1.mp4", **columns),
        tables.failed(Reason.GENERATION_FAILED, "", prompt_id="p2", file="", **columns),
    ]
    samples = table_ref(tmp_path / "samples", SAMPLES, rows)
    scored = [score("p1", "Tom"), score("p1", "Clara"), unscored("p2", "Tom")]
    scores = table_ref(tmp_path / "scores", CHARACTER_SCORES, scored)

    def collect(settings: Path, workspace: Path | None) -> CachedResults:
        found = collect_cached_results(settings, workspace)
        found.run.refs |= {"samples": [samples], "character_scores": [scores]}
        return found

    monkeypatch.setattr(cached_results, "collect_cached_results", collect)
    settings = project.folder / "own.yaml"
    settings.write_text(
        project.settings.read_text()
        + f"character_scores: {{backend: efficientnet-lite0}}\nsamples: {{prompts: {prompts}}}\n"
    )
    result = bench_card(settings, "--out", tmp_path / "card")
    assert result.exit_code == 0, result.output
    videos = pq.read_table(tmp_path / "card" / "videos.parquet").to_pylist()
    assert [(row["video_id"], row["all"]) for row in videos] == [("p1", True)]
    page = (tmp_path / "card" / "index.html").read_text()
    assert "1 asked-for character: no video" in page
    assert "1 asked-for character: not in the table of scores" in page


@pytest.mark.e2e
def test_a_run_without_scores_says_how_to_get_them(project: Project, tmp_path: Path) -> None:
    result = bench_card(project.settings, "--out", tmp_path / "card")
    assert result.exit_code == 2
    assert "character_scores.backend is none" in result.output
    text = project.settings.read_text()
    project.settings.write_text(text + "character_scores: {backend: efficientnet-lite0}\n")
    try:
        result = bench_card(project.settings, "--out", tmp_path / "card")
    finally:
        project.settings.write_text(text)
    assert result.exit_code == 2
    assert "there is no character_scores table with these settings" in result.output
