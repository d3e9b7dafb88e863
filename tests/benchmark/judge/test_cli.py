from __future__ import annotations

from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from flows import bench_judge_cli
from mimix_core.tables import read
from mimix_core.tables.judge_tables import DUELS, JUDGEMENTS
from tests.benchmark.judge import factories
from tests.vlm.fake_provider import FakeProvider

PROMPTS = (factories.prompt(0, "Tom"), factories.prompt(1, "Jerry", "Mr. Bean"))

app = typer.Typer()
bench_judge_cli.register(app)


def invoke(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def options(server: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Command-line options for two systems' folders, prompts, library and judge settings."""
    monkeypatch.setenv("COLUMNS", "200")
    for name, moves in (("ours", True), ("stiff", False)):
        factories.system(tmp_path, name, PROMPTS, moves=moves)
    (tmp_path / "stiff" / "p001.mp4").unlink()
    cast = factories.cast(tmp_path / "cast")
    shows = [
        {
            "id": f"show-{number}",
            "title": one.show,
            "style": one.style.value,
            "characters": [
                {
                    "name": one.name,
                    "description": one.description,
                    "references": [f"cast/{number}.png"],
                }
            ],
            # Missing files: the judge ignores episodes.
            "episodes": [{"path": "episodes/one.mp4"}],
        }
        for number, one in enumerate(cast)
    ]
    files = {
        "library.yaml": {"shows": shows},
        "prompts.yaml": {"prompts": [one.model_dump(mode="json") for one in PROMPTS]},
        "judge.yaml": {
            "judge": factories.settings(
                server, mode="strict", negative_control_videos=1
            ).model_dump(mode="json")
        },
    }
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    words = []
    for option in ("prompts", "library"):
        words += [f"--{option}", str(tmp_path / f"{option}.yaml")]
    for name in ("stiff", "ours"):
        words += ["--system", f"{name}={tmp_path / name}"]
    return [*words, "--settings", str(tmp_path / "judge.yaml"), "--work", str(tmp_path / "work")]


def test_estimate_judge_compare_and_agreement_with_people(
    options: list[str], server: FakeProvider, tmp_path: Path
) -> None:
    code, output = invoke("judge-cost", *options)
    assert code == 0, output
    assert "ratings" in output
    assert "comparisons" in output
    assert not server.counts()["asked"]
    out, duels = tmp_path / "j.parquet", tmp_path / "d.parquet"
    code, output = invoke("judge", *options, "--out", out, "--duels", duels)
    assert code == 0, output
    judged = read(out, JUDGEMENTS)
    # 2 systems, 2 prompts, 4 aspects, and 5 controls; 2 samples each; one video is missing.
    assert len(judged) == (2 * 2 * 4 + 5) * 2
    assert sum(row["reason"] == "no_video" for row in judged) == 4 * 2
    compared = read(duels, DUELS)
    assert len(compared) == 2 * 4 * 2
    values = {(row["system"], row["aspect"]): row["value"] for row in judged if row["value"]}
    assert values["ours", "motion"] == values["ours", "identity"] == 10
    assert values["stiff", "motion"] == 1
    won = {row["winner"] for row in compared if row["aspect"] == "motion"}
    assert won == {"left", None}
    for word in ("frozen-frame", "Bradley-Terry", "first wins", "8 missing"):
        assert word in output
    asked = len(server.counts()["right"])
    bytes_before = out.read_bytes()
    out.unlink()
    assert invoke("judge", *options, "--out", out)[0] == 0
    assert out.read_bytes() == bytes_before
    assert len(server.counts()["right"]) == asked
    (tmp_path / "human.csv").write_text(
        "system,prompt_id,aspect,rating\n"
        "ours,p000,motion,9\nours,p001,motion,8\nstiff,p000,motion,1\nstiff,p001,motion,2\n"
    )
    code, output = invoke("judge-agreement", "--judgements", out, "--human", tmp_path / "human.csv")
    assert code == 0, output
    assert "quadratic kappa" in output


def test_invalid_settings_stop_before_any_request(
    options: list[str], server: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "judge.yaml").write_text("judge: {mode: paper}\n")
    code, output = invoke("judge", *options)
    assert (code, "no judge model is configured" in output) == (2, True)
    (tmp_path / "judge.yaml").write_text("judge: {mode: quick}\n")
    code, output = invoke("judge", *options)
    assert (code, "key judge.mode" in output) == (2, True)
    paper = factories.settings(server).model_dump(mode="json")
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump({"judge": paper}))
    code, output = invoke("judge", *options, "--duels", tmp_path / "d.parquet")
    assert (code, "mode strict" in output) == (2, True)
    monkeypatch.delenv("MIMIX_TEST_KEY")
    code, output = invoke("judge", *options)
    assert (code, "MIMIX_TEST_KEY" in output) == (2, True)
    assert not server.counts()["asked"]
