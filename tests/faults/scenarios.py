"""Writers of MiMix whose files must survive a crash, and how their readers are asked afterwards.

``python -m tests.faults.scenarios NAME FOLDER`` prepares the folder, then writes; the lines that
begin with ``crash_states.MARK`` say what the writer has promised. ``check`` reads what a crash
left and raises if it is neither the old nor the new state, or less than was promised.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core.engine.artifacts import Counts, digest_file
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.engine.folder_export import ExportedFile, export_folder
from mimix_core.engine.jsonl_log import JsonlLog, read_records
from mimix_core.engine.store import StageRecord, Store
from mimix_core.inbox.atomic_copy import TransferMode, folder_lock, transfer_file
from mimix_core.project.item_decisions import (
    DecisionAction,
    DecisionLog,
    ItemDecision,
    ItemKind,
    read_item_decisions,
)
from mimix_core.vlm.cost_ledger import CostLedger
from mimix_core.vlm.protocol import TokenUsage
from mimix_core.vlm.response_cache import CachedResponse, ResponseCache
from tests.faults.crash_states import MARK

COUNT = 3
"""How often each writer writes."""


def mark(promised: int) -> None:
    """Say that so many writes are finished."""
    os.write(1, f"{MARK}{promised}\n".encode())


@dataclass(frozen=True)
class Scenario:
    """A writer. ``prepare`` makes the old state, of which ``check`` is told as promise 0."""

    name: str
    prepare: Callable[[Path], None]
    write: Callable[[Path], None]
    check: Callable[[Path, int], None]


def _nothing(_: Path) -> None:
    """Start with an empty folder."""


# One file that is replaced


def _content(number: int) -> bytes:
    return f"{number}:".encode() + bytes(range(256)) * 40


def _write_file(root: Path) -> None:
    for number in range(1, COUNT + 1):
        atomic_write_bytes(root / "below" / "file", _content(number))
        mark(number)


def _check_file(root: Path, promised: int) -> None:
    path = root / "below" / "file"
    if not path.exists():
        assert promised == 0, "the file is gone"
        return
    number = int(path.read_bytes().partition(b":")[0] or b"-1")
    assert path.read_bytes() == _content(number), "the file is incomplete"
    assert number >= promised, f"write {number} is there, {promised} was promised"


# Logs


def _line(number: int) -> dict[str, object]:
    return {"number": number, "text": "zwölf Boxkämpfer jagen Viktor — ねこ" * 3}


def _write_new_log(root: Path) -> None:
    log = JsonlLog.resume(root / "log.jsonl")
    for number in range(1, COUNT + 1):
        log.append(_line(number))
        mark(number)
    log.close()


def _start_log(root: Path) -> None:
    JsonlLog.create(root / "log.jsonl").close()


def _check_log(root: Path, promised: int) -> None:
    path = root / "log.jsonl"
    found = read_records(path)
    assert found == [_line(n) for n in range(1, len(found) + 1)], "a line is damaged"
    assert len(found) >= promised, f"{len(found)} lines, {promised} were promised"
    log = JsonlLog.resume(path)
    log.append(_line(len(found) + 1))
    log.close()
    assert read_records(path) == [_line(n) for n in range(1, len(found) + 2)]


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


# The store


def _record(stage: str, key: str) -> StageRecord:
    return StageRecord(
        stage=stage,
        version=1,
        unit="u",
        key=key,
        counts=Counts(rows_in=1, ok=1, rejected=0, failed=0),
        reasons={},
        notes={},
        seconds=1.0,
        peak_rss_mb=1,
    )


def _keys() -> list[str]:
    return [f"{number:064x}" for number in range(1, COUNT + 1)]


def _commit(store: Store, key: str, text: str) -> None:
    with store.staging("pages", key) as out:
        pq.write_table(pa.table({"page": [text]}), out / Store.TABLE)
        (out / "files").mkdir()
        (out / "files" / "page.txt").write_text(text * 100)
        store.commit(_record("pages", key), out)


def _write_store(root: Path) -> None:
    store = Store(root / "store")
    for number, key in enumerate(_keys(), 1):
        _commit(store, key, key)
        mark(number)


def _check_store(root: Path, promised: int) -> None:
    store = Store(root / "store")
    for number, key in enumerate(_keys(), 1):
        ref = store.lookup("pages", key)
        if ref is None:
            assert number > promised, f"result {number} is gone"
            _commit(store, key, key)
            ref = store.lookup("pages", key)
        assert ref is not None
        assert pq.read_table(ref.path).column("page").to_pylist() == [key]
        assert (ref.folder / "files" / "page.txt").read_text() == key * 100


def _break_store(root: Path) -> None:
    _write_store(root)
    for key in _keys():
        (Store(root / "store").folder("pages", key) / Store.TABLE).write_bytes(b"damaged")


def _discard_results(root: Path) -> None:
    store = Store(root / "store")
    for number, key in enumerate(_keys(), 1):
        assert store.discard("pages", key)
        mark(number)


def _check_discarded(root: Path, promised: int) -> None:
    store = Store(root / "store")
    for number, key in enumerate(_keys(), 1):
        ref = store.lookup("pages", key)
        assert ref is None or number > promised, f"result {number} is back"
    _check_store(root, 0)


# Training


def _tensors(step: int) -> dict[str, object]:
    import torch

    return {"weight": torch.full((64, 8), float(step)), "step": torch.tensor(step)}


def _write_checkpoints(root: Path) -> None:
    from mimix_core.training.checkpoint import lock_run, write_checkpoint

    with lock_run(root / "run", 5):
        for step in range(1, COUNT + 1):
            write_checkpoint(root / "run", step, _tensors(step), keep=2)  # type: ignore[arg-type]
            mark(step)


def _check_checkpoints(root: Path, promised: int) -> None:
    from mimix_core.training.checkpoint import latest_checkpoint, lock_run

    with lock_run(root / "run", 5):
        found = latest_checkpoint(root / "run", lambda _: None)
    step = found.step if found else 0
    assert step >= promised, f"checkpoint {step} is there, {promised} was promised"
    if found:
        tensors = found.load_tensors()
        assert bool((tensors["weight"] == step).all())


def _write_adapters(root: Path) -> None:
    import torch

    from mimix_core.wan.adapter_metadata import AdapterMetadata
    from mimix_core.wan.lora_export import write_adapter
    from mimix_core.wan.lora_formats import Adapter

    for number in range(1, COUNT + 1):
        value = float(number)
        layer = (torch.full((2, 8), value), torch.full((8, 2), value))
        adapter = Adapter({"blocks.0.attn1.to_q": layer}, alpha=2.0)
        metadata = AdapterMetadata(
            base="b", base_sha256="0" * 64, rank=2, alpha=2.0, targets=("to_q",),
            characters=(), styles=(), dataset_sha256="0" * 64, settings={},
        )  # fmt: skip
        write_adapter(root / "adapter.safetensors", adapter, metadata)
        mark(number)


def _check_adapters(root: Path, promised: int) -> None:
    from mimix_core.wan.lora_export import read_adapter

    path = root / "adapter.safetensors"
    if not path.exists():
        assert promised == 0, "the adapter is gone"
        return
    adapter, _ = read_adapter(path)
    values = {float(v) for pair in adapter.pairs.values() for one in pair for v in one.flatten()}
    assert len(values) == 1, f"the adapter is damaged: {values}"
    assert min(values) >= max(promised, 1), f"adapter {values}, {promised} was promised"


# Paid requests


def _response(number: int) -> CachedResponse:
    return CachedResponse(
        text=f"Antwort {number} für Zoë",
        model="m",
        input_tokens=1,
        cached_tokens=0,
        output_tokens=1,
        cost_usd=Decimal("0.25"),
        attempts=1,
        spent_usd=Decimal("0.25"),
        date=datetime(2026, 1, 1, tzinfo=UTC).date(),
    )


def _pay(root: Path) -> None:
    cache = ResponseCache(root / "vlm")
    ledger = CostLedger(cache, Decimal(10))
    for number, digest in enumerate(_keys(), 1):
        with cache.lock_request(digest) as lock:
            assert lock is not None
            assert ledger.reserve(lock, Decimal("0.50"))
            os.write(1, b"the request is sent here\n")
            cache.write(digest, _response(number))
            ledger.record(digest, "captions", "m", TokenUsage(1, 0, 1), Decimal("0.25"))
            lock.reserve_cost(Decimal(0))
        mark(number)


def _check_paid(root: Path, promised: int) -> None:
    cache = ResponseCache(root / "vlm")
    for number, digest in enumerate(_keys(), 1):
        response = cache.read(digest)
        assert response is None or response == _response(number), "a response is damaged"
        assert response is not None or number > promised, f"response {number} would be paid again"
    ledger = CostLedger(cache, Decimal(10))
    ledger.record_lost_requests()
    spent = ledger.spent_usd()
    assert spent >= Decimal("0.25") * promised, f"{spent} in the ledger, {promised} were paid"
    ledger.record("f" * 64, "captions", "m", TokenUsage(1, 0, 1), Decimal("0.25"))
    assert ledger.spent_usd() == spent + Decimal("0.25")


# Files that go in and out


def _prepare_inbox(root: Path) -> None:
    for folder in ("inbox", "library"):
        (root / folder).mkdir()
    for number in range(1, COUNT + 1):
        (root / "inbox" / f"{number}.mkv").write_bytes(_content(number))


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
        assert all(path.read_bytes() == _content(number) for path in found), f"{name} is damaged"
        assert name in names or number > promised, f"{name} is not in the library"


def _prepare_export(root: Path) -> None:
    (root / "files").mkdir()
    for number in range(1, COUNT + 1):
        (root / "files" / f"{number}.mp4").write_bytes(_content(number))


def _make_export(root: Path) -> None:
    files = {
        f"videos/{path.name}": ExportedFile(path, digest_file(path))
        for path in sorted((root / "files").iterdir())
    }
    export_folder(root / "export", "test", files, {"metadata.csv": "a,b\n" * 100})


def _export(root: Path) -> None:
    _make_export(root)
    mark(1)


def _check_export(root: Path, promised: int) -> None:
    target = root / "export"
    assert target.is_dir() or promised == 0, "the export is gone"
    if target.is_dir():
        for number in range(1, COUNT + 1):
            path = target / "videos" / f"{number}.mp4"
            assert path.read_bytes() == _content(number), f"{path.name} is damaged"
        assert (target / "metadata.csv").read_text() == "a,b\n" * 100
    else:
        _make_export(root)


# Other people's views: the index of the studio, exemplars of a named character, scores


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


def _prepare_crops(root: Path) -> None:
    (root / "crops").mkdir()
    for number in range(1, COUNT + 1):
        (root / "crops" / f"{number}.png").write_bytes(_content(number))


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
    expected = [_content(number) for number in range(1, COUNT + 1)]
    assert all(content in expected for content in files), "an exemplar is damaged"


def _write_scores(root: Path) -> None:
    from mimix_core.benchmark.vbench.score_cache import open_score_cache

    with open_score_cache(root / "scores" / "scores.jsonl") as cache:
        for number, key in enumerate(_keys(), 1):
            cache.put(key, number / 8)
            mark(number)


def _check_scores(root: Path, promised: int) -> None:
    from mimix_core.benchmark.vbench.score_cache import open_score_cache

    with open_score_cache(root / "scores" / "scores.jsonl") as cache:
        found = [cache.get(key) for key in _keys()]
        cache.put("0" * 64, 1.0)
    count = len([score for score in found if score is not None])
    assert found[:count] == [number / 8 for number in range(1, count + 1)]
    assert count >= promised, f"{count} scores, {promised} were promised"


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("file", _nothing, _write_file, _check_file),
        Scenario("log", _start_log, _write_new_log, _check_log),
        Scenario("new-log", _nothing, _write_new_log, _check_log),
        Scenario("decisions", _nothing, _write_decisions, _check_decisions),
        Scenario("store", _nothing, _write_store, _check_store),
        Scenario("damaged-store", _break_store, _write_store, _check_store),
        Scenario("discard", _write_store, _discard_results, _check_discarded),
        Scenario("checkpoints", _nothing, _write_checkpoints, _check_checkpoints),
        Scenario("adapters", _nothing, _write_adapters, _check_adapters),
        Scenario("paid-requests", _nothing, _pay, _check_paid),
        Scenario("ingest-copy", _prepare_inbox, _ingest(TransferMode.COPY), _check_ingested),
        Scenario("ingest-move", _prepare_inbox, _ingest(TransferMode.MOVE), _check_ingested),
        Scenario("export", _prepare_export, _export, _check_export),
        Scenario("studio-index", _nothing, _write_index, _check_index),
        Scenario("named-tracks", _prepare_crops, _name_tracks, _check_named),
        Scenario("scores", _nothing, _write_scores, _check_scores),
    )
}


def main(name: str, root: Path) -> None:
    """Prepare and run a writer."""
    scenario = SCENARIOS[name]
    scenario.prepare(root)
    mark(0)
    scenario.write(root)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
