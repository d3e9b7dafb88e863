"""``mimix decisions``: what people decided is listed, exported and merged, and bad lines named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from mimix_core.project.item_decisions import (
    DecisionAction,
    DecisionLog,
    ItemDecision,
    ItemKind,
    read_item_decisions,
)
from mimix_core.settings import load_config


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return settings_in(tmp_path / "one")


def settings_in(folder: Path) -> Path:
    folder.mkdir()
    path = folder / "mimix.yaml"
    (folder / "library.yaml").write_text("shows: []\n")
    path.write_text("library: library.yaml\n")
    return path


def decide(settings: Path, item: str, action: str, by: str, **more: str) -> ItemDecision:
    log = DecisionLog(load_config(settings).decisions)
    decision = ItemDecision(
        reviewer=by, kind=ItemKind.CLIP, item=item, action=DecisionAction(action), **more
    )
    return log.append([decision])[0]


def call(command: str, *arguments: object) -> Result:
    words = ["decisions", command, *(str(one) for one in arguments)]
    return CliRunner().invoke(app, words, env={"COLUMNS": "400"})


def test_what_counts_is_listed_by_kind_and_person(settings: Path) -> None:
    none = call("list", settings)
    assert none.exit_code == 0
    assert none.output.startswith("0 lines in ")
    first = decide(settings, "a", "reject", "anna", reason="a logo")
    decide(settings, "a", "approve", "ben")
    decide(settings, "b", "edit", "anna", caption="[Character: Tom], runs. [scene-style:cartoon]")
    undone = decide(settings, "b", "reject", "anna")
    decide(settings, "b", "undo", "anna", undoes=undone.decision_id)
    listed = call("list", settings).output.splitlines()
    counted = [line.split() for line in listed[:-2]]
    assert counted == [["clip", "approve", "1", "ben"], ["clip", "edit", "1", "anna"]]
    assert listed[-2].startswith("5 lines in ")
    assert listed[-1].startswith("1 items on which people disagree")
    decide(settings, "a", "undo", "anna", undoes=first.decision_id)
    assert "disagree" not in call("list", settings).output


def test_files_of_two_machines_are_merged_in_any_order(settings: Path, tmp_path: Path) -> None:
    other = settings_in(tmp_path / "two")
    decide(settings, "a", "reject", "anna")
    decide(other, "a", "approve", "ben")
    decide(other, "b", "reject", "ben")
    exported = tmp_path / "from-two.jsonl"
    assert "2 decisions written" in call("export", other, exported).output
    assert "2 decisions added, 0 were there" in call("import", settings, exported).output
    assert "0 decisions added, 2 were there" in call("import", settings, exported).output
    back = tmp_path / "from-one.jsonl"
    assert "3 decisions written" in call("export", settings, back).output
    assert "1 decisions added, 2 were there" in call("import", other, back).output
    ledgers = [read_item_decisions(load_config(one).decisions) for one in (settings, other)]
    assert ledgers[0].states() == ledgers[1].states()
    assert ledgers[0].rejections(ItemKind.CLIP) == {"b": ""}, "ben was later on a"
    lines = [json.loads(line) for line in back.read_text().splitlines()]
    times = [line["decided_at"] for line in lines]
    assert times == sorted(times), "the earliest first"


def test_a_bad_or_missing_file_adds_nothing(settings: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    decide(settings, "a", "reject", "anna")
    call("export", settings, good)
    other = settings_in(tmp_path / "two")
    bad = tmp_path / "bad.jsonl"
    bad.write_text(good.read_text() + '{"kind": "clip"}\n')
    refused = call("import", other, good, bad)
    assert refused.exit_code == 2
    assert "line 2" in refused.output
    assert "bad.jsonl" in refused.output
    missing = call("import", other, good, tmp_path / "none.jsonl")
    assert (missing.exit_code, "no such file" in missing.output) == (2, True)
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xf8\x18")
    unreadable = call("import", other, good, binary)
    assert (unreadable.exit_code, "binary.jsonl: is not UTF-8" in unreadable.output) == (2, True)
    folder = call("import", other, good, tmp_path)
    assert (folder.exit_code, "is not a file" in folder.output) == (2, True)
    assert not load_config(other).decisions.exists(), "all files or none"


def test_an_export_replaces_an_earlier_one_and_nothing_else(settings: Path, tmp_path: Path) -> None:
    other, own = settings_in(tmp_path / "two"), load_config(settings).decisions
    decide(settings, "a", "reject", "anna")
    decide(other, "b", "reject", "ben")
    exported, theirs, prompts = (tmp_path / name for name in ("a.jsonl", "b.jsonl", "p.yaml"))
    call("export", settings, exported)
    call("export", other, theirs)
    prompts.write_text("prompts: []\n")
    decide(settings, "c", "reject", "anna")
    assert "2 decisions written" in call("export", settings, exported).output
    for target, said in (
        (theirs, "already exists, with 1 decisions that"),
        (prompts, "already exists, and is not an export of decisions"),
        (tmp_path, "already exists, and is not an export of decisions"),
        (own, "is the file of the decisions itself"),
    ):
        before = None if target.is_dir() else target.read_bytes()
        refused = call("export", settings, target)
        assert (refused.exit_code, said in refused.output) == (2, True), refused.output
        assert before is None or target.read_bytes() == before


def test_a_table_of_named_tracks_of_before_is_converted(settings: Path, tmp_path: Path) -> None:
    table = tmp_path / "named-tracks.jsonl"
    table.write_text(
        '{"show":"toons","track_id":"t1","character":"Cat","exemplars":'
        '["0123456789abcdef0123.png"],"reviewer":"anna","decided_at":"2026-11-20T10:00:00Z"}\n'
    )
    assert "1 decisions added" in call("import", settings, table).output
    assert "0 decisions added, 1 were there" in call("import", settings, table).output
    ledger = read_item_decisions(load_config(settings).decisions)
    assert ledger.named_tracks()["toons/t1"].character == "Cat"
    assert "track" in call("list", settings).output
