"""Names of tracks are decisions: appended, never changed, and the last one counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mimix_core.errors import BadInput
from mimix_core.project.item_decisions import (
    DecisionAction,
    DecisionLog,
    ItemDecision,
    ItemKind,
)
from mimix_core.project.named_tracks import (
    OLD_TABLE,
    characters_folder,
    convert_old_names,
    decided_tracks,
    name_decision,
    named_exemplars,
)


def crop(folder: Path, name: str) -> Path:
    path = folder / f"{name}.png"
    path.write_bytes(name.encode())
    return path


def name(log: DecisionLog, track: str, crops: list[Path], character: str) -> ItemDecision:
    [made] = log.append([name_decision(workspace_of(log), track, crops, character)])
    return made


def workspace_of(log: DecisionLog) -> Path:
    return log.path.parent / "workspace"


@pytest.fixture
def log(tmp_path: Path) -> DecisionLog:
    return DecisionLog(tmp_path / "decisions.jsonl")


def exemplars(log: DecisionLog, show: str = "toons") -> dict[str, tuple[Path, ...]]:
    return named_exemplars(log.path, workspace_of(log), show)


def test_the_last_decision_on_a_track_counts_and_none_is_lost(
    tmp_path: Path, log: DecisionLog
) -> None:
    one, two = crop(tmp_path, "one"), crop(tmp_path, "two")
    name(log, "toons/t1", [one, two], "Cat")
    name(log, "toons/t2", [two], "Cat")
    lines = log.path.read_bytes()
    found = exemplars(log)
    assert {path.read_text() for path in found["Cat"]} == {"one", "two"}
    assert len(found["Cat"]) == 2, "one picture in two tracks is one exemplar"
    assert exemplars(log, "people") == {}

    renamed = name(log, "toons/t1", [one], "Dog")
    name(log, "toons/t2", [], "")
    assert [path.read_text() for path in exemplars(log)["Dog"]] == ["one"]
    assert "Cat" not in exemplars(log)
    assert decided_tracks(log.path, workspace_of(log)) == {"toons/t1", "toons/t2"}
    assert log.path.read_bytes().startswith(lines)
    log.append(
        [
            ItemDecision(
                reviewer="ben",
                kind=ItemKind.TRACK,
                item="toons/t1",
                action=DecisionAction.UNDO,
                undoes=renamed.decision_id,
            )
        ]
    )
    assert len(exemplars(log)["Cat"]) == 2, "the name of before"


def test_exemplars_outlive_the_proposals_and_their_loss_is_an_error(
    tmp_path: Path, log: DecisionLog
) -> None:
    one = crop(tmp_path, "one")
    name(log, "toons/t1", [one], "Cat")
    one.unlink()
    (kept,) = exemplars(log)["Cat"]
    kept.unlink()
    with pytest.raises(BadInput, match="of Cat is missing"):
        exemplars(log)


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "track", "action": "approve"},
        {"kind": "clip", "action": "name", "character": "Cat"},
        {"kind": "clip", "action": "approve", "character": "Cat"},
        {"kind": "track", "action": "name", "character": "Cat"},
        {"kind": "track", "action": "name", "character": "Cat", "exemplars": ["../../secret.png"]},
    ],
)
def test_a_line_that_names_nobody_or_a_path_is_refused(line: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"track|character|exemplars"):
        ItemDecision.model_validate({"reviewer": "anna", "item": "toons/t1", **line})


def old_table(log: DecisionLog, *lines: dict[str, object]) -> Path:
    path = characters_folder(workspace_of(log)) / OLD_TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


OLD = {
    "show": "toons",
    "track_id": "t1",
    "character": "Cat",
    "exemplars": ["0123456789abcdef0123.png"],
    "reviewer": "anna",
    "decided_at": "2026-11-20T10:00:00Z",
}


def test_names_of_before_are_said_until_they_are_imported_once(log: DecisionLog) -> None:
    withdrawn = {**OLD, "character": "", "exemplars": [], "decided_at": "2026-11-21T10:00:00Z"}
    path = old_table(log, OLD, withdrawn)
    with pytest.raises(BadInput, match=r"2 names of tracks .*mimix decisions import SETTINGS"):
        exemplars(log)
    converted = convert_old_names(path)
    assert [one.reviewer for one in converted] == ["anna", "anna"]
    assert log.import_lines(converted) == 2
    assert log.import_lines(convert_old_names(path)) == 0, "the same decisions each time"
    assert exemplars(log) == {}, "the last decision withdrew the name"
    assert decided_tracks(log.path, workspace_of(log)) == {"toons/t1"}


def test_a_damaged_table_of_before_is_refused(log: DecisionLog) -> None:
    path = old_table(log, OLD, {"show": "toons"})
    with pytest.raises(BadInput, match="not a table of named tracks"):
        convert_old_names(path)
