"""Ratings of people in ``mimix bench``: tables, report section, CSV, and the page's set-up."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.benchmark.human.rating_setup import prepare_ratings
from mimix_core.benchmark.promptsets.prompt_generator import prompts_to_yaml
from mimix_core.benchmark.systems import System
from mimix_core.errors import BadInput
from mimix_core.media import open_video
from mimix_core.project.pair_ratings import RatingLog
from tests.benchmark.human.simulated_raters import ASPECTS, honest, plan_pairs, rate_all
from tests.benchmark.human.test_rater_reliability import always_left
from tests.benchmark.tables import factories
from tests.benchmark.tables.factories import PROMPTS, judgement
from tests.media_factory import Shot, write_video

STRENGTHS = {"a": 1.0, "b": -1.0}


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    plan = plan_pairs(4, ("a", "b"))
    renamed = plan.model_copy(
        update={
            "prompts": tuple(
                one.model_copy(update={"id": name})
                for one, name in zip(plan.prompts, factories.IDS, strict=True)
            ),
            "controls": tuple(
                one.model_copy(update={"prompt_id": name})
                for one, name in zip(plan.controls, factories.IDS, strict=True)
            ),
        }
    )
    log = RatingLog(tmp_path / "ratings.jsonl")
    raters = {"anna": honest(STRENGTHS, 1), "ben": honest(STRENGTHS, 2), "<i>l": always_left}
    for rating in rate_all(renamed, raters):
        log.append(rating)
    return log.path


def test_the_report_has_peoples_tables_beside_the_judges(ratings: Path, tmp_path: Path) -> None:
    for name in "ab":
        factories.system(tmp_path / "in", name)
    rows = [
        judgement(s, p, a, 5 + n)
        for n, s in enumerate("ab")
        for p in factories.IDS
        for a in ASPECTS
    ]
    (tmp_path / "prompts.yaml").write_text(prompts_to_yaml(PROMPTS))
    factories.judgements(tmp_path / "j.parquet", rows)
    factories.duels(tmp_path / "d.parquet", dict.fromkeys(factories.IDS, ("left", "left")))
    words = ["--system", f"a={tmp_path}/in/a", "--system", f"b={tmp_path}/in/b"]
    words += ["--prompts", str(tmp_path / "prompts.yaml"), "--ratings", str(ratings)]
    words += ["--judgements", str(tmp_path / "j.parquet"), "--duels", str(tmp_path / "d.parquet")]
    done = CliRunner().invoke(app, ["bench", "report", *words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "index.html").read_text()
    for title in ("People&#39;s preferences", "Agreement of people and judge", "Raters"):
        assert title in page
    assert "<i>l" not in page
    assert "rated by people" in page
    with (tmp_path / "out" / "people-agreement.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["Between"] for line in lines} == {
        "person and person",
        "judge's comparisons and person",
        "judge's ratings and person",
    }
    with (tmp_path / "out" / "people.csv").open() as file:
        motion = [line for line in csv.DictReader(file) if line["Aspect"] == "motion"]
    assert {line["Judge's rank"] for line in motion} == {"1", "2"}


def test_the_command_prints_and_writes_them(ratings: Path, tmp_path: Path) -> None:
    words = ["bench", "ratings", str(ratings), "--csv", str(tmp_path / "csv")]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "People's preferences" in done.output
    assert sorted(path.name for path in (tmp_path / "csv").iterdir()) == [
        "people-agreement.csv",
        "people-pairs.csv",
        "people.csv",
        "raters.csv",
    ]
    missing = CliRunner().invoke(app, ["bench", "ratings", str(tmp_path / "none")])
    assert missing.exit_code == 2
    assert "no such file" in missing.output


def test_pairs_are_prepared_from_playable_videos_with_noise_to_tell_who_looks(
    tmp_path: Path,
) -> None:
    systems = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        for prompt_id in ("p1", "p2"):
            write_video(folder / f"{prompt_id}.mp4", [Shot(16)])
        systems.append(System(name, folder))
    (tmp_path / "b" / "p3.mp4").write_text("broken")
    write_video(tmp_path / "a" / "p3.mp4", [Shot(16)])
    setup = prepare_ratings(PROMPTS, systems, 0, tmp_path / "controls")
    assert [pair[0] for pair in setup.plan.pairs()] == ["p1", "p2"]
    reasons = {(system, prompt): why for system, prompt, why in setup.left_out}
    assert reasons["a", "p4"] == "no video"
    assert ("b", "p3") in reasons
    [control] = setup.plan.controls
    with open_video(control.noise, threads=1) as noise:
        assert sum(1 for _ in noise.frames()) == 16
    assert {one.name for one in setup.plan.aspects} == set(ASPECTS)
    with pytest.raises(BadInput, match="needs two systems"):
        prepare_ratings(PROMPTS, systems[:1], 0, tmp_path / "controls")
