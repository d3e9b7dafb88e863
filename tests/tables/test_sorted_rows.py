"""Rows that are sorted on disk: the same file as in memory, whatever order they came in."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimix_core import tables
from mimix_core.tables import Row, SortedRows, sorted_rows
from tests.factories import caption


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sort 64 rows in memory, merge by 8, and write groups of 100."""
    monkeypatch.setattr(sorted_rows, "RUN_ROWS", 64)
    monkeypatch.setattr(sorted_rows, "_MERGE_ROWS", 8)
    monkeypatch.setattr(sorted_rows, "GROUP_ROWS", 100)


def shuffled_captions(count: int) -> list[Row]:
    rows = [
        caption(f"clip-{number:05}", cost_usd=None if number % 3 else 0.5)
        for number in range(count)
    ]
    random.Random(count).shuffle(rows)
    return rows


def written_in_memory(path: Path, rows: list[Row]) -> bytes:
    """What the file is by its definition: all rows sorted, in one go."""
    metadata = {
        "mimix.table": tables.CAPTIONS.name,
        "mimix.schema_version": str(tables.CAPTIONS.version),
        "mimix.stage_key": "k",
    }
    arrow = pa.Table.from_pylist(
        sorted(rows, key=lambda row: row["clip_id"]),
        schema=tables.CAPTIONS.schema.with_metadata(metadata),
    )
    pq.write_table(arrow, path, compression="zstd", row_group_size=100)
    return path.read_bytes()


@pytest.mark.usefixtures("small_runs")
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 100, 128, 500, 1000])
def test_the_file_is_that_of_rows_sorted_in_memory(tmp_path: Path, count: int) -> None:
    rows = shuffled_captions(count)
    path = tmp_path / "t.parquet"
    tables.write(path, tables.CAPTIONS, rows, stage_key="k")
    assert path.read_bytes() == written_in_memory(tmp_path / "expected.parquet", rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["expected.parquet", "t.parquet"]


@pytest.mark.usefixtures("small_runs")
@pytest.mark.parametrize("place", [1, 63, 64, 300])
def test_an_id_that_comes_twice_is_an_error_in_whichever_run(tmp_path: Path, place: int) -> None:
    rows = [caption(f"clip-{number:05}") for number in range(300)]
    rows.insert(place, caption("clip-00000"))
    with pytest.raises(ValueError, match="captions row 'clip-00000': duplicate id"):
        tables.write(tmp_path / "t.parquet", tables.CAPTIONS, rows, stage_key="k")


@pytest.mark.usefixtures("small_runs")
def test_rows_are_counted_as_they_come(tmp_path: Path) -> None:
    rows = SortedRows(tables.REPORT, tmp_path)
    for number in range(150):
        page = {"page": f"{number:03}", "file": ""}
        reason = tables.Reason.SCENE_BLACK
        rows.add(tables.rejected(reason, "dark", **page) if number % 3 else tables.ok(**page))
    assert len(rows) == 150
    assert rows.statuses == {"ok": 50, "rejected": 100}
    assert rows.reasons == {"scene_black": 100}


def test_a_row_that_violates_the_contract_is_rejected_when_it_is_added(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="status ok with reason"):
        SortedRows(tables.REPORT, tmp_path).add(
            {**tables.ok(page="a", file=""), "reason": "scene_black"}
        )


def test_the_digest_is_that_of_all_rows_as_one_stream(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    tables.write(path, tables.CAPTIONS, shuffled_captions(300), stage_key="k")
    arrow = pq.read_table(path)
    metadata = {k: v for k, v in arrow.schema.metadata.items() if k != b"mimix.stage_key"}
    arrow = arrow.replace_schema_metadata(metadata).combine_chunks()
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, arrow.schema) as writer:
        writer.write_table(arrow)
    expected = hashlib.sha256(stream.getvalue().to_pybytes()).hexdigest()
    assert tables.digest_rows(path, tables.CAPTIONS) == expected


@pytest.mark.usefixtures("small_runs")
def test_the_digest_of_several_row_groups_sees_each_row(tmp_path: Path) -> None:
    def digest(rows: list[Row], key: str) -> str:
        path = tmp_path / f"{key}.parquet"
        tables.write(path, tables.CAPTIONS, rows, stage_key=key)
        assert pq.ParquetFile(path).num_row_groups == 3
        return tables.digest_rows(path, tables.CAPTIONS)

    rows = shuffled_captions(250)
    assert digest(rows, "a") == digest(rows[::-1], "b")
    for place in (0, 120, 249):
        changed = [*rows[:place], {**rows[place], "attempts": 7}, *rows[place + 1 :]]
        assert digest(changed, "c") != digest(rows, "a")


@pytest.mark.usefixtures("small_runs")
def test_texts_are_found_in_all_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows = [tables.ok(page=f"{number:03}", file=f"pages/{number}") for number in range(250)]
    tables.write(path, tables.REPORT, rows, stage_key="k")
    wanted = {"pages/0", "pages/249", "120", "elsewhere"}
    assert tables.find_texts(path, wanted) == wanted - {"elsewhere"}
    assert tables.find_texts(path, set()) == set()


@pytest.mark.usefixtures("small_runs")
def test_columns_are_read_a_row_group_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows = [tables.ok(page=f"{number:03}", file="f") for number in range(250)]
    tables.write(path, tables.REPORT, rows, stage_key="k")
    groups = list(tables.read_groups(path, tables.REPORT, ("page",)))
    assert [len(group) for group in groups] == [100, 100, 50]
    found = list(tables.iterate(path, tables.REPORT, ("page",)))
    assert found == [{"page": f"{number:03}"} for number in range(250)]
