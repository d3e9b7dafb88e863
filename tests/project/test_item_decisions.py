"""The file of decisions: nothing is lost, the latest counts, undoing is another line."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mimix_core.errors import BadInput
from mimix_core.project.item_decisions import (
    DecisionAction,
    DecisionLedger,
    DecisionLog,
    ItemDecision,
    ItemKind,
    format_decision_lines,
    parse_decision_lines,
    read_item_decisions,
)
from tests.paths import ROOT

CAPTION = "[Character: Tom], runs. [scene-style:cartoon]"


def decide(item: str, action: str = "approve", by: str = "anna", **more: Any) -> ItemDecision:
    return ItemDecision(
        reviewer=by, kind=ItemKind.CLIP, item=item, action=DecisionAction(action), **more
    )


APPEND = """
import sys
from pathlib import Path
from mimix_core.project.item_decisions import DecisionAction, DecisionLog, ItemDecision, ItemKind

path, name, count = sys.argv[1:]
log = DecisionLog(Path(path))
for number in range(int(count)):
    item = f"clip-{number}"
    log.append([ItemDecision(reviewer=name, kind=ItemKind.CLIP, item=item,
                             action=DecisionAction.REJECT, reason=name)])
"""


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, str(path), name, "25"],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("anna", "ben")
    ]
    for writer in writers:
        _, printed = writer.communicate()
        assert writer.returncode == 0, printed
    ledger = read_item_decisions(path)
    assert len(ledger.by_id) == 50
    times = [one.decided_at for one in ledger.by_id.values()]
    assert times == sorted(set(times)), "times increase in the file, so that one is the latest"
    for number in range(25):
        history = ledger.history(ItemKind.CLIP, f"clip-{number}")
        assert {one.reviewer for one in history} == {"anna", "ben"}


def test_a_crash_in_the_middle_of_a_line_loses_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    DecisionLog(path).append([decide("one")])
    with path.open("a") as file:
        file.write('{"decision_id": "0123')
    reader = DecisionLog(path)
    assert [one.item for one in reader.refresh()] == ["one"]
    DecisionLog(path).append([decide("two")])
    assert [one.item for one in reader.refresh()] == ["two"], "only what is new is read"
    assert len(path.read_text().splitlines()) == 2


def test_the_latest_decision_counts_and_undoing_brings_the_one_before_back(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    first, second = log.append([decide("one"), decide("one", "reject", "ben", reason="blurred")])
    state = log.ledger.state(ItemKind.CLIP, "one")
    assert state.rejected
    assert state.disputed
    assert log.ledger.rejections(ItemKind.CLIP) == {"one": "blurred"}
    assert log.ledger.rejections(ItemKind.CUTOUT) == {}
    log.append([decide("one", "undo", undoes=second.decision_id)])
    state = log.ledger.state(ItemKind.CLIP, "one")
    assert state.verdict == first
    assert not state.disputed
    assert len(log.ledger.by_id) == 3, "nothing is removed"


def test_a_verdict_and_an_edit_of_one_clip_both_count(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    log.append([decide("one", "edit", caption=CAPTION), decide("one"), decide("two", "keep")])
    assert log.ledger.edited_captions() == {"one": CAPTION}
    assert log.ledger.duplicates_to_keep() == ("two",)
    assert log.ledger.state(ItemKind.CLIP, "one").verdict is not None


def test_a_moved_crop_counts_beside_verdict_and_edit(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    log.append([decide("a"), decide("a", "edit", caption=CAPTION)])
    log.append([decide("a", "crop", crop=(0, 2, 40, 30))])
    [last] = log.append([decide("a", "crop", crop=(8, 2, 40, 30))])
    ledger = read_item_decisions(log.path)
    assert ledger.moved_crops() == {"a": (8, 2, 40, 30)}
    assert len(ledger.state(ItemKind.CLIP, "a").decisions) == 3
    log.append([decide("a", "undo", undoes=last.decision_id)])
    assert log.ledger.moved_crops() == {"a": (0, 2, 40, 30)}
    with pytest.raises(ValueError, match="only a clip has a crop"):
        ItemDecision(
            reviewer="a",
            kind=ItemKind.CUTOUT,
            item="c",
            action=DecisionAction.CROP,
            crop=(0, 0, 2, 2),
        )


def test_decisions_of_two_machines_merge_by_their_time(tmp_path: Path) -> None:
    earlier = datetime(2026, 1, 1, tzinfo=UTC)
    mine = DecisionLog(tmp_path / "mine.jsonl")
    mine.append([decide("one", "reject", decided_at=earlier + timedelta(hours=1))])
    theirs = [decide("one", "approve", "ben", decided_at=earlier), decide("two", by="ben")]
    text = format_decision_lines(theirs)
    parsed = parse_decision_lines(text, tmp_path / "theirs.jsonl")
    assert mine.import_lines(parsed) == 2
    assert mine.import_lines(parsed) == 0, "a second time adds nothing"
    assert mine.ledger.state(ItemKind.CLIP, "one").rejected, "the later one counts"
    assert read_item_decisions(mine.path).states() == mine.ledger.states()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nonsense", "line 2"),
        ('{"reviewer":"a","kind":"clip","item":"x","action":"edit"}', "line 2: a caption belongs"),
        (
            '{"reviewer":"a","kind":"clip","item":"x","action":"edit","caption":"Tom runs"}',
            "does not end with",
        ),
        ('{"reviewer":"a","kind":"show","item":"x","action":"approve"}', "line 2: kind"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text(format_decision_lines([decide("one")]) + line + "\n")
    with pytest.raises(BadInput, match=problem):
        read_item_decisions(path)


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path)
    log.append([decide("one"), decide("two")])
    other = tmp_path / "other"
    other.write_text(format_decision_lines([decide("three", "reject")]))
    other.replace(path)
    log.refresh()
    assert set(log.ledger.states()) == {(ItemKind.CLIP, "three")}
    path.unlink()
    log.refresh()
    assert log.ledger.states() == {}


def test_an_unchanged_file_is_parsed_once_and_a_changed_one_again(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    assert read_item_decisions(log.path).items() == []
    log.append([decide("a")])
    first = read_item_decisions(log.path)
    assert read_item_decisions(log.path) is first
    log.append([decide("b")])
    assert {item for _, item in read_item_decisions(log.path).items()} == {"a", "b"}
    assert {item for _, item in first.items()} == {"a"}


def test_a_line_is_named_without_exemplars_and_nothing_else_is_said_of_it() -> None:
    def line(item: str, action: str = "name", **more: Any) -> ItemDecision:
        return ItemDecision(
            reviewer="anna", kind=ItemKind.LINE, item=item, action=DecisionAction(action), **more
        )

    first, second = line("a", character="Tom"), line("b", character="Ann")
    later = line("a", character="")
    ledger = DecisionLedger([first, second, later])
    assert ledger.named_lines() == {"a": "", "b": "Ann"}
    assert ledger.named_tracks() == {}
    ledger.add(line("a", "undo", undoes=later.decision_id))
    assert ledger.named_lines() == {"a": "Tom", "b": "Ann"}
    for wrong in (
        {"action": "approve"},
        {"action": "name", "character": "Tom", "exemplars": ["0" * 20 + ".png"]},
        {"action": "reject", "character": "Tom"},
    ):
        with pytest.raises(ValidationError):
            line("a", **wrong)
