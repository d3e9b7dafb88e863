from __future__ import annotations

from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from flows import bench_judge_cli, bench_judge_retry_cli
from mimix_core.tables import read
from mimix_core.tables.judge_tables import DUELS, JUDGEMENTS
from tests.benchmark.judge import factories
from tests.vlm.fake_provider import FakeProvider

PROMPTS = (factories.prompt(0, "Tom"), factories.prompt(1, "Jerry", "Mr. Bean"))

app = typer.Typer()
bench_judge_cli.register(app)
bench_judge_retry_cli.register(app)


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
    for word in ("frozen-frame", "Bradley-Terry", "first wins", "8 missing", "ours − stiff"):
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


@pytest.mark.e2e
def test_failed_answers_are_asked_for_again_by_decision_only(
    options: list[str], server: FakeProvider, tmp_path: Path
) -> None:
    settings = factories.settings(server).model_dump(mode="json")
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump({"judge": settings}))
    faults = {f"The aspect: {name}-P": ["text:I see no video. key=sk-abcdef123"] for name in
              ("Motion", "Style", "Interaction")}  # fmt: skip
    server.control(faults=faults)
    out, work = tmp_path / "j.parquet", tmp_path / "work"
    retry = ("judge-retry", "--judgements", out, "--work", work)

    def asked() -> int:
        return sum(map(len, server.counts()["asked"].values()))

    # Nine answers are unreadable, four videos' ratings have no video, three of sixteen are good.
    code, output = invoke("judge", *options, "--out", out)
    last = output.strip().splitlines()[-1]
    assert code == 1, output
    assert "judgements: 13 of 16 answers failed: answer_invalid 9, no_video 4" in last
    failed = {row["judgement_id"]: row for row in read(out, JUDGEMENTS) if row["reason"]}
    motion = failed["ours/p000/paper/motion/0"]
    assert str(motion["detail"]).endswith("the model wrote: I see no video. key=***")
    assert asked() == 12

    # The server is mended. The same command does not pay again.
    server.control(faults={}, script={})
    assert invoke("judge", *options, "--out", out)[0] == 1
    assert asked() == 12
    code, output = invoke(*retry, "ours/p000/paper/motion/0")
    assert (code, "judgements: 1 to ask again (answer_invalid 1)" in output) == (0, True), output
    code, output = invoke(*retry, "--reason", "answer_invalid")
    assert "judgements: 9 to ask again (answer_invalid 9)" in output
    code, output = invoke("judge", *options, "--out", out)
    assert code == 0, output
    assert {row["reason"] for row in read(out, JUDGEMENTS)} == {None, "no_video"}
    assert asked() == 12 + 9
    assert "judgements: 0 to ask again" in invoke(*retry)[1]

    for words, said in (
        (["judge-retry"], "name the tables"),
        ([*retry, "--reason", "no_video"], "no model is asked again for no_video"),
        ([*retry, "ours/p000/paper/motion/0"], "no failed answer of ours/p000/paper/motion/0"),
        ([*retry[:3], "--work", tmp_path / "none"], "no such folder"),
    ):
        code, output = invoke(*words)
        assert (code, said in output.replace("\n", " ")) == (2, True), output


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
