"""Writers of a project: episodes that come in, decisions, named characters, the studio's index."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from mimix_core.engine.artifacts import digest_file
from mimix_core.inbox.atomic_copy import TransferMode, folder_lock, transfer_file
from mimix_core.project.item_decisions import (
    DecisionAction,
    DecisionLog,
    ItemDecision,
    ItemKind,
    read_item_decisions,
)
from tests.faults.scenario import COUNT, Scenario, content, mark, prepare_nothing


def _prepare_inbox(root: Path) -> None:
    for folder in ("inbox", "library"):
        (root / folder).mkdir()
    for number in range(1, COUNT + 1):
        (root / "inbox" / f"{number}.mkv").write_bytes(content(number))


def _ingest(mode: TransferMode) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for number in range(1, COUNT + 1):
            source = root / "inbox" / f"{number}.mkv"
            with folder_lock(root / "library"):
                target = root / "library" / source.name
                transfer_file(source, target, digest_file(source), mode)
            mark(number)

    return write


def _check_ingested(root: Path, promised: int) -> None:
    with folder_lock(root / "library"):
        names = {path.name for path in (root / "library").glob("*.mkv")}
    for number in range(1, COUNT + 1):
        name = f"{number}.mkv"
        places = [root / folder / name for folder in ("library", "inbox")]
        found = [path for path in places if path.exists()]
        assert found, f"{name} is lost"
        assert all(path.read_bytes() == content(number) for path in found), f"{name} is damaged"
        assert name in names or number > promised, f"{name} is not in the library"


def _decision(number: int) -> ItemDecision:
    return ItemDecision(
        decision_id=f"{number:032x}",
        decided_at=datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC),
        reviewer="Zoë",
        kind=ItemKind.CLIP,
        item=f"clip-{number}",
        action=DecisionAction.REJECT,
        reason="verwackelt — ぶれ",
    )


def _write_decisions(root: Path) -> None:
    for number in range(1, COUNT + 1):
        DecisionLog(root / "decisions.jsonl").append([_decision(number)])
        mark(number)


def _check_decisions(root: Path, promised: int) -> None:
    path = root / "decisions.jsonl"
    found = set(read_item_decisions(path).by_id) if path.exists() else set()
    expected = [_decision(number).decision_id for number in range(1, COUNT + 1)]
    assert found == set(expected[: len(found)]), "decisions are out of order"
    assert len(found) >= promised, f"{len(found)} decisions, {promised} were promised"
    DecisionLog(path).append([_decision(COUNT + 1)])
    assert len(read_item_decisions(path).by_id) == len(found) + 1


def _prepare_crops(root: Path) -> None:
    (root / "crops").mkdir()
    for number in range(1, COUNT + 1):
        (root / "crops" / f"{number}.png").write_bytes(content(number))


def _name_tracks(root: Path) -> None:
    from mimix_core.project.named_tracks import name_decision, track_item

    for number in range(1, COUNT + 1):
        crop = root / "crops" / f"{number}.png"
        item = track_item("show", f"track-{number}")
        decision = name_decision(root, item, [crop], "Tom", reviewer="Zoë")
        DecisionLog(root / "decisions.jsonl").append([decision])
        mark(number)


def _check_named(root: Path, promised: int) -> None:
    from mimix_core.project.named_tracks import named_exemplars

    path = root / "decisions.jsonl"
    found = named_exemplars(path, root, "show") if path.exists() else {}
    files = [file.read_bytes() for exemplars in found.values() for file in exemplars]
    assert len(files) >= promised, f"{len(files)} exemplars, {promised} were promised"
    expected = [content(number) for number in range(1, COUNT + 1)]
    assert all(content in expected for content in files), "an exemplar is damaged"


def _write_index(root: Path) -> None:
    from mimix_core.studio.index_file import write_index
    from mimix_core.studio.studio_item import StudioItem

    for number in range(1, COUNT + 1):
        items = [StudioItem("clip", f"clip-{number}-{i}") for i in range(20)]
        write_index(root / "studio" / f"index-{number}.sqlite", items, {"number": number})
        mark(number)


def _check_index(root: Path, promised: int) -> None:
    import sqlite3

    for number in range(1, COUNT + 1):
        path = root / "studio" / f"index-{number}.sqlite"
        if not path.exists():
            continue  # It is made again.
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM items").fetchone() == (20,)
        connection.close()


SCENARIOS = (
    Scenario("ingest-copy", _prepare_inbox, _ingest(TransferMode.COPY), _check_ingested),
    Scenario("ingest-move", _prepare_inbox, _ingest(TransferMode.MOVE), _check_ingested),
    Scenario("decisions", prepare_nothing, _write_decisions, _check_decisions),
    Scenario("named-tracks", _prepare_crops, _name_tracks, _check_named),
    Scenario("studio-index", prepare_nothing, _write_index, _check_index),
)
