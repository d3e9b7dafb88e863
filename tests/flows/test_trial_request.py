"""``mimix doctor --ask`` sends one request to each model, over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tests.vlm.fake_provider import KEY, KEY_NAME, FakeProvider, run_fake_provider

runner = CliRunner(env={"COLUMNS": "300"})


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with run_fake_provider() as running:
        yield running


@pytest.fixture
def settings_file(provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(KEY_NAME, KEY)
    (tmp_path / "library.yaml").write_text(
        "shows: [{id: a, title: A, style: cartoon, characters: [{name: Tom}], episodes: []}]\n"
    )
    vlm = provider.settings().model_dump(mode="json", exclude_defaults=True)
    judge = json.dumps({**vlm, "temperature": 0.3})
    path = tmp_path / "mimix.yaml"
    path.write_text(
        "library: library.yaml\nworkspace: workspace\n"
        f"captions: {{backend: vlm, vlm: {json.dumps(vlm)}}}\njudge: {{vlm: {judge}}}\n"
    )
    return path


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("right", "seer-2026-01-01: "),
        ('text:{"color": "blue"}', "it called a red image blue"),
        ("text:It is red.", "contains no JSON object; the model wrote: It is red."),
        ('raw:402:{"error": {"message": "Insufficient credits"}}', "Insufficient credits"),
    ],
)
def test_each_model_is_asked_once_and_its_answer_is_described(
    provider: FakeProvider, settings_file: Path, how: str, found: str
) -> None:
    before = sum(map(len, provider.counts()["asked"].values()))
    provider.control(all=how)
    result = runner.invoke(app, ["doctor", str(settings_file), "--ask"])
    lines = [line for line in result.output.splitlines() if "trial request" in line]
    assert len(lines) == 2
    assert all(found in line for line in lines), result.output
    assert sum(map(len, provider.counts()["asked"].values())) == before + 2


def test_asking_needs_settings() -> None:
    result = runner.invoke(app, ["doctor", "--ask"])
    assert result.exit_code == 2
    assert "--ask needs a settings file" in result.output
