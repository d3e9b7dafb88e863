"""Writers of the engine: files that are replaced, logs, the store of results, exported folders."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core.engine.artifacts import Counts, digest_file
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.engine.folder_export import ExportedFile, export_folder
from mimix_core.engine.jsonl_log import JsonlLog, read_records
from mimix_core.engine.store import StageRecord, Store
from tests.faults.scenario import COUNT, Scenario, content, keys, mark, prepare_nothing


def _write_file(root: Path) -> None:
    for number in range(1, COUNT + 1):
        atomic_write_bytes(root / "below" / "file", content(number))
        mark(number)


def _check_file(root: Path, promised: int) -> None:
    path = root / "below" / "file"
    if not path.exists():
        assert promised == 0, "the file is gone"
        return
    number = int(path.read_bytes().partition(b":")[0] or b"-1")
    assert path.read_bytes() == content(number), "the file is incomplete"
    assert number >= promised, f"write {number} is there, {promised} was promised"


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


def _commit(store: Store, key: str, text: str) -> None:
    with store.staging("pages", key) as out:
        pq.write_table(pa.table({"page": [text]}), out / Store.TABLE)
        (out / "files").mkdir()
        (out / "files" / "page.txt").write_text(text * 100)
        store.commit(_record("pages", key), out)


def _write_store(root: Path) -> None:
    store = Store(root / "store")
    for number, key in enumerate(keys(), 1):
        _commit(store, key, key)
        mark(number)


def _check_store(root: Path, promised: int) -> None:
    store = Store(root / "store")
    for number, key in enumerate(keys(), 1):
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
    for key in keys():
        (Store(root / "store").folder("pages", key) / Store.TABLE).write_bytes(b"damaged")


def _discard_results(root: Path) -> None:
    store = Store(root / "store")
    for number, key in enumerate(keys(), 1):
        assert store.discard("pages", key)
        mark(number)


def _check_discarded(root: Path, promised: int) -> None:
    store = Store(root / "store")
    for number, key in enumerate(keys(), 1):
        ref = store.lookup("pages", key)
        assert ref is None or number > promised, f"result {number} is back"
    _check_store(root, 0)


def _prepare_export(root: Path) -> None:
    (root / "files").mkdir()
    for number in range(1, COUNT + 1):
        (root / "files" / f"{number}.mp4").write_bytes(content(number))


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
            assert path.read_bytes() == content(number), f"{path.name} is damaged"
        assert (target / "metadata.csv").read_text() == "a,b\n" * 100
    else:
        _make_export(root)


SCENARIOS = (
    Scenario("file", prepare_nothing, _write_file, _check_file),
    Scenario("log", _start_log, _write_new_log, _check_log),
    Scenario("new-log", prepare_nothing, _write_new_log, _check_log),
    Scenario("store", prepare_nothing, _write_store, _check_store),
    Scenario("damaged-store", _break_store, _write_store, _check_store),
    Scenario("discard", _write_store, _discard_results, _check_discarded),
    Scenario("export", _prepare_export, _export, _check_export),
)
