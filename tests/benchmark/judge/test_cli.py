from __future__ import annotations

from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from flows import bench_judge_cli
from mimix_core.tables import read
from mimix_core.tables.judge_tables import DUELS, JUDGEMENTS
from tests.benchmark.judge import world
from tests.vlm.standin import StandIn

PROMPTS = (world.prompt(0, "Tom"), world.prompt(1, "Jerry", "Mr. Bean"))

app = typer.Typer()
bench_judge_cli.register(app)


def invoke(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def given(server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A folder of each of two systems, and the files that say what they were to show."""
    monkeypatch.setenv("COLUMNS", "200")
    for name, moves in (("ours", True), ("stiff", False)):
        world.system(tmp_path, name, PROMPTS, moves=moves)
    (tmp_path / "stiff" / "p001.mp4").unlink()
    cast = world.cast(tmp_path / "cast")
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
            # None of them is there, and none is needed.
            "episodes": [{"path": "episodes/one.mp4"}],
        }
        for number, one in enumerate(cast)
    ]
    files = {
        "library.yaml": {"shows": shows},
        "prompts.yaml": {"prompts": [one.model_dump(mode="json") for one in PROMPTS]},
        "judge.yaml": {
            "judge": world.settings(server, mode="strict", control_videos=1).model_dump(mode="json")
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


def test_folders_of_videos_are_estimated_judged_compared_and_held_against_people(
    given: list[str], server: StandIn, tmp_path: Path
) -> None:
    code, said = invoke("judge-cost", *given)
    assert code == 0, said
    assert "ratings" in said
    assert "comparisons" in said
    assert not server.counts()["asked"]
    out, duels = tmp_path / "j.parquet", tmp_path / "d.parquet"
    code, said = invoke("judge", *given, "--out", out, "--duels", duels)
    assert code == 0, said
    judged = read(out, JUDGEMENTS)
    # 2 systems, 2 prompts, 4 aspects, and 4 controls; 2 samples each; one video is not there.
    assert len(judged) == (2 * 2 * 4 + 4) * 2
    assert sum(row["reason"] == "no_video" for row in judged) == 4 * 2
    compared = read(duels, DUELS)
    assert len(compared) == 2 * 4 * 2
    values = {(row["system"], row["aspect"]): row["value"] for row in judged if row["value"]}
    assert values["ours", "motion"] == values["ours", "identity"] == 10
    assert values["stiff", "motion"] == 1
    won = {row["winner"] for row in compared if row["aspect"] == "motion"}
    assert won == {"left", None}
    for word in ("frozen-frame", "Bradley-Terry", "first wins", "8 missing"):
        assert word in said
    asked = len(server.counts()["right"])
    bytes_before = out.read_bytes()
    out.unlink()
    assert invoke("judge", *given, "--out", out)[0] == 0
    assert out.read_bytes() == bytes_before
    assert len(server.counts()["right"]) == asked
    (tmp_path / "human.csv").write_text(
        "system,prompt_id,aspect,rating\n"
        "ours,p000,motion,9\nours,p001,motion,8\nstiff,p000,motion,1\nstiff,p001,motion,2\n"
    )
    code, said = invoke("judge-agreement", "--judgements", out, "--human", tmp_path / "human.csv")
    assert code == 0, said
    assert "quadratic kappa" in said


def test_what_cannot_be_judged_is_told_before_anything_is_asked(
    given: list[str], server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "judge.yaml").write_text("judge: {mode: paper}\n")
    code, said = invoke("judge", *given)
    assert (code, "no model judges" in said) == (2, True)
    (tmp_path / "judge.yaml").write_text("judge: {mode: quick}\n")
    code, said = invoke("judge", *given)
    assert (code, "key judge.mode" in said) == (2, True)
    paper = world.settings(server).model_dump(mode="json")
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump({"judge": paper}))
    code, said = invoke("judge", *given, "--duels", tmp_path / "d.parquet")
    assert (code, "mode strict" in said) == (2, True)
    monkeypatch.delenv("MIMIX_TEST_KEY")
    code, said = invoke("judge", *given)
    assert (code, "MIMIX_TEST_KEY" in said) == (2, True)
    assert not server.counts()["asked"]
