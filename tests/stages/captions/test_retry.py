"""``mimix captions retry``: failed captions are asked for again only when a person says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli import app
from mimix_core import tables
from tests.media_factory import Shot, write_video
from tests.stages.captions.test_cli import LIBRARY, curated, runner
from tests.vlm.fake_provider import FakeProvider

SETTINGS = """\
library: library.yaml
workspace: workspace
overlays: {backend: none}
clips: {width: 160, height: 96, preset: ultrafast, min_motion: 0, min_sharpness: 0}
"""
GOOD = {
    "seen": [{"character": "Tom", "evidence": "grey fur"}],
    "actions": [{"character": "Tom", "action": "runs"}],
    "context": "A kitchen",
    "style": "cartoon",
}


@pytest.fixture
def project(server: FakeProvider, tmp_path: Path) -> Path:
    write_video(tmp_path / "a.mp4", [Shot(24 * 12)], size=(160, 96))
    (tmp_path / "library.yaml").write_text(LIBRARY)
    (tmp_path / "a.yaml").write_text("actions: []\n")
    vlm = json.dumps(server.settings().model_dump(mode="json", exclude_defaults=True))
    (tmp_path / "mimix.yaml").write_text(
        f"{SETTINGS}captions: {{backend: vlm, vlm: {vlm}, max_reprompts: 0}}\n"
    )
    return tmp_path / "mimix.yaml"


def captions(settings: Path) -> list[tables.CaptionRow]:
    return [
        row for ref in curated(settings).captions for row in tables.read(ref.path, tables.CAPTIONS)
    ]


def count(server: FakeProvider) -> int:
    return sum(map(len, server.counts()["asked"].values()))


def test_failed_captions_are_asked_for_again_by_decision_only(
    server: FakeProvider, project: Path
) -> None:
    server.control(all="text:I see a cat.")
    failed = captions(project)
    assert [row["reason"] for row in failed] == ["caption_invalid", "caption_invalid"]
    assert all(row["detail"].endswith("the model wrote: I see a cat.") for row in failed)
    assert count(server) == 2

    # The server is mended. A run by itself pays for nothing: not even without the stage's result.
    server.control(all=f"text:{json.dumps(GOOD)}")
    assert captions(project) == failed
    for folder in (project.parent / "workspace" / "store" / "captions").iterdir():
        (folder / "table.parquet").unlink()
    assert captions(project) == failed
    assert count(server) == 2

    first = failed[0]["clip_id"]
    result = runner.invoke(app, ["captions", "retry", str(project), first])
    assert result.exit_code == 0, result.output
    assert "captions: 1 to ask again (caption_invalid 1)" in result.output
    assert [row["status"] for row in captions(project)] == ["ok", "failed"]
    assert count(server) == 3

    result = runner.invoke(app, ["captions", "retry", str(project)])
    assert "captions: 1 to ask again (caption_invalid 1)" in result.output
    assert [row["status"] for row in captions(project)] == ["ok", "ok"]
    assert count(server) == 4
    result = runner.invoke(app, ["captions", "retry", str(project)])
    assert "captions: 0 to ask again" in result.output
    assert count(server) == 4


def test_what_cannot_be_asked_again_is_refused(server: FakeProvider, project: Path) -> None:
    server.control(all="text:I see a cat.")
    captions(project)
    retries = project.parent / "workspace" / "retries.jsonl"
    for words, message in (
        (["--reason", "left_out_by_hand"], "no model is asked again for left_out_by_hand"),
        (["toons-0-c0"], "no failed caption of toons-0-c0"),
    ):
        result = runner.invoke(app, ["captions", "retry", str(project), *words])
        assert result.exit_code == 2
        assert message in result.output.replace("\n", " ")
    assert not retries.exists()
    retries.write_text('{"id": "x"}\n')
    result = runner.invoke(app, ["captions", "retry", str(project)])
    assert result.exit_code == 2
    assert "retries.jsonl: contains a line that is not a retry" in result.output.replace("\n", " ")
