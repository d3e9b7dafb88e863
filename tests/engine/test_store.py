"""A result is complete and stored under its key, or absent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mimix_core import tables
from mimix_core.engine.artifacts import FrozenModel, TableRef, digest_file, file_ref
from mimix_core.engine.cache_key import canonical_json, stage_key
from mimix_core.engine.stage import Phase, Stage, StageReport, run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import StageFailed
from mimix_core.tables import Reason


class Inputs(FrozenModel):
    unit: str = "u"
    names: tuple[str, ...] = ("a", "b")


class Settings(FrozenModel):
    text: str = "hello"


runs: list[str] = []


def run(inputs: Inputs, settings: Settings, out: Path) -> StageReport:
    runs.append(settings.text)
    (out / "pages").mkdir()
    rows = []
    for name in inputs.names:
        (out / "pages" / name).write_text(settings.text)
        rows.append(tables.ok(page=name, file=f"pages/{name}"))
    return StageReport(rows, rows_in=len(inputs.names))


def make_stage(run: Callable[[Inputs, Settings, Path], StageReport]) -> Stage[Inputs, Settings]:
    return Stage(
        name="pages",
        title="Pages",
        description="Write pages.",
        row_noun="pages",
        phase=Phase.CURATION,
        version=1,
        inputs=Inputs,
        settings=Settings,
        table=tables.REPORT,
        run=run,
    )


STAGE = make_stage(run)


@pytest.fixture(autouse=True)
def _forget_runs() -> None:
    runs.clear()


def test_the_second_run_is_a_lookup(store: Store) -> None:
    first = run_stage(store, STAGE, Inputs(), Settings())
    second = run_stage(store, STAGE, Inputs(), Settings())
    assert (first.computed, second.computed, runs) == (True, False, ["hello"])
    assert first.ref == second.ref
    assert [row["page"] for row in tables.read(first.ref.path, tables.REPORT)] == ["a", "b"]
    assert (first.ref.folder / "pages" / "a").read_text() == "hello"


def test_different_settings_are_stored_as_different_results(store: Store) -> None:
    one = run_stage(store, STAGE, Inputs(), Settings()).ref
    two = run_stage(store, STAGE, Inputs(), Settings(text="bye")).ref
    assert one.key != two.key
    assert one.path.exists()
    assert two.path.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "pages" / "a").unlink(),
        lambda folder: (folder / "pages" / "a").write_text("jello"),  # same size
        lambda folder: (folder / "table.parquet").write_bytes(b"PAR1"),
        lambda folder: (folder / "table.parquet").unlink(),
        lambda folder: (folder / "stage.json").unlink(),
        lambda folder: (folder / "stage.json").write_text("{"),
    ],
    ids=["file gone", "file changed", "table changed", "table gone", "no record", "bad record"],
)
def test_a_damaged_result_is_computed_again(store: Store, damage) -> None:
    before = run_stage(store, STAGE, Inputs(), Settings()).ref
    damage(before.folder)
    assert store.lookup("pages", before.key) is None
    again = run_stage(store, STAGE, Inputs(), Settings())
    assert again.computed
    assert again.ref == before
    assert (again.ref.folder / "pages" / "a").read_text() == "hello"


def test_a_table_changed_under_the_same_mtime_is_detected(store: Store) -> None:
    ref = run_stage(store, STAGE, Inputs(), Settings()).ref
    stat = ref.path.stat()
    content = bytearray(ref.path.read_bytes())
    content[len(content) // 2] ^= 1
    ref.path.write_bytes(content)
    os.utime(ref.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.lookup("pages", ref.key) is None


def test_a_touched_file_is_digested_and_found_unchanged(store: Store) -> None:
    ref = run_stage(store, STAGE, Inputs(), Settings()).ref
    (ref.folder / "pages" / "a").touch()
    assert store.lookup("pages", ref.key) == ref


def test_a_failing_stage_leaves_nothing(store: Store) -> None:
    def breaks(inputs: Inputs, settings: Settings, out: Path) -> StageReport:
        (out / "half").write_text("half")
        raise RuntimeError("in the middle")

    broken = make_stage(breaks)
    with pytest.raises(RuntimeError, match="in the middle"):
        run_stage(store, broken, Inputs(), Settings())
    assert not (store.root / "pages").exists()
    assert [p for p in (store.root / ".staging").iterdir() if p.is_dir()] == []


def test_lost_rows_are_an_error(store: Store) -> None:
    def loses(inputs: Inputs, settings: Settings, out: Path) -> StageReport:
        return StageReport([tables.ok(page="a", file="")], rows_in=2)

    lossy = make_stage(loses)
    with pytest.raises(StageFailed, match="2 rows went in and 1 came out"):
        run_stage(store, lossy, Inputs(), Settings())
    assert store.lookup("pages", lossy.key(Inputs(), Settings())) is None


def test_the_record_counts_by_reason(store: Store) -> None:
    def judges(inputs: Inputs, settings: Settings, out: Path) -> StageReport:
        rows = [
            tables.ok(page="a", file=""),
            tables.rejected(Reason.SCENE_TOO_SHORT, "1 s", page="b", file=""),
            tables.failed(Reason.ENCODE_FAILED, "disk", page="c", file=""),
        ]
        return StageReport(rows, rows_in=3)

    stage = make_stage(judges)
    record = store.record(run_stage(store, stage, Inputs(), Settings()).ref)
    assert record.reasons == {"encode_failed": 1, "scene_too_short": 1}
    assert (record.counts.rows_in, record.counts.ok) == (3, 1)
    assert (record.counts.rejected, record.counts.failed) == (1, 1)


def test_concurrent_runs_agree_on_one_result(store: Store) -> None:
    both_inside = threading.Barrier(2, timeout=30)

    def slow(inputs: Inputs, settings: Settings, out: Path) -> StageReport:
        both_inside.wait()
        return run(inputs, settings, out)

    stage = make_stage(slow)
    refs = []
    threads = [
        threading.Thread(
            target=lambda: refs.append(run_stage(store, stage, Inputs(), Settings()).ref)
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refs[0] == refs[1]
    assert store.lookup("pages", refs[0].key) == refs[0]
    assert [p for p in (store.root / ".staging").iterdir() if p.is_dir()] == []


def test_folders_of_killed_runs_are_removed_and_those_of_live_runs_are_not(store: Store) -> None:
    script = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from mimix_core.engine.store import Store
        with Store(Path({str(store.root)!r})).staging("pages", "k" * 64) as out:
            (out / "half").write_text("half")
            print(out, flush=True)
            time.sleep(60)
        """
    )
    killed = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    living = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    assert living.stdout is not None
    abandoned, live = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    try:
        run_stage(store, STAGE, Inputs(), Settings())
        assert not abandoned.exists()
        assert (live / "half").exists()
    finally:
        living.kill()
        living.wait()


def test_source_digests_are_cached_until_the_file_changes(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "episode.mp4"
    path.write_bytes(b"first")
    first = store.source_ref(path)
    assert first == file_ref(path)
    stat = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.source_ref(path).sha256 == first.sha256, "same size and mtime: not read again"
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert store.source_ref(path).sha256 == file_ref(path).sha256 != first.sha256


def test_the_digest_of_a_folder_covers_names_and_bytes(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, str]) -> str:
        for path, text in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return file_ref(tmp_path / name).sha256

    base = folder("one", {"a": "1", "sub/b": "2"})
    assert folder("two", {"sub/b": "2", "a": "1"}) == base
    assert folder("three", {"a": "1", "sub/c": "2"}) != base
    assert folder("four", {"a": "1", "sub/b": "3"}) != base


class Downstream(FrozenModel):
    table: TableRef


def test_equal_rows_and_files_are_the_same_table_whatever_their_key(store: Store) -> None:
    """Another seed that changes nothing must not compute all later stages again."""

    def ignore_text(inputs: Inputs, settings: Settings, out: Path) -> StageReport:
        (out / "pages").mkdir()
        (out / "pages" / "a").write_text("always" if len(settings.text) < 9 else "other bytes")
        (out / "log.txt").write_text(settings.text)
        return StageReport([tables.ok(page="a", file="pages/a")], rows_in=1)

    stage = make_stage(ignore_text)
    one, two, other = (
        run_stage(store, stage, Inputs(), Settings(text=text)).ref
        for text in ("one", "two", "another text")
    )
    assert one.key != two.key
    later = [stage_key("later", 1, Downstream(table=ref), Settings()) for ref in (one, two, other)]
    assert later[0] == later[1], "the log is not named by a row"
    assert later[0] != later[2], "the same rows, but a file has other bytes"


def test_a_file_that_no_row_names_but_later_stages_read_is_part_of_the_result(
    store: Store,
) -> None:
    """The rows of a training are its samples: its adapter is a file beside them."""

    def train(inputs: Inputs, settings: Settings, out: Path) -> StageReport:
        (out / "adapter").write_text(settings.text)
        return StageReport([tables.ok(page="a", file="")], rows_in=1, files=("adapter", "average"))

    one, two = (
        run_stage(store, make_stage(train), Inputs(), Settings(text=text)).ref
        for text in ("one", "two")
    )
    later = [stage_key("later", 1, Downstream(table=ref), Settings()) for ref in (one, two)]
    assert later[0] != later[1]


def test_results_of_before_have_the_same_keys_after_them(store: Store) -> None:
    ref = run_stage(store, STAGE, Inputs(), Settings()).ref
    path = ref.folder / Store.RECORD
    record = json.loads(path.read_text())
    del record["content"], record["key_parts"]
    path.write_text(json.dumps(record))
    old = store.lookup(STAGE.name, ref.key)
    assert old is not None
    assert canonical_json(old) == {"table": digest_file(ref.path)}
