"""Tables: explicit schema, sorted, byte-identical, and no row without a status."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core import tables
from mimix_core.errors import BadInput
from mimix_core.tables import Reason, Table

ALL = [value for value in vars(tables).values() if isinstance(value, Table)]


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_every_table_keeps_what_became_of_a_row(table: Table) -> None:
    assert {"status", "reason", "detail", table.id} <= set(table.schema.names)
    assert table.parent is None or table.parent in table.schema.names
    assert not table.schema.field("status").nullable


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_order_of_rows_does_not_reach_the_file(names: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "t.parquet")
        rows = [tables.ok(page=name, file=name) for name in names]
        tables.write(written, tables.REPORT, rows, stage_key="k")
        expected = Path(folder, "e.parquet")
        tables.write(expected, tables.REPORT, sorted(rows, key=lambda r: r["page"]), stage_key="k")
        assert written.read_bytes() == expected.read_bytes()


def test_metadata_names_table_version_and_key(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    tables.write(path, tables.REPORT, [], stage_key="the-key")
    metadata = pq.read_schema(path).metadata
    assert metadata[b"mimix.stage_key"] == b"the-key"
    assert metadata[b"mimix.table"] == b"report"
    assert pq.ParquetFile(path).metadata.num_rows == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"page": "a", "status": "ok", "reason": None, "detail": None}, "missing columns"),
        (tables.ok(page="a", file="", extra=1), "unknown columns"),
        ({**tables.ok(page="a", file=""), "reason": "scene_black"}, "status ok with reason"),
        (
            {**tables.rejected(Reason.SCENE_BLACK, "", page="a", file=""), "reason": None},
            "status rejected with reason None",
        ),
        (
            {**tables.rejected(Reason.SCENE_BLACK, "", page="a", file=""), "reason": "because"},
            "unknown reason",
        ),
        ({**tables.ok(page="a", file=""), "status": "fine"}, "fine"),
    ],
)
def test_rows_that_violate_the_contract_are_rejected(row: tables.Row, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tables.validate(tables.REPORT, [row])


def test_a_duplicate_id_is_rejected() -> None:
    with pytest.raises(ValueError, match="duplicate id"):
        tables.validate(tables.REPORT, [tables.ok(page="a", file="")] * 2)


def test_reading_another_table_raises_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    tables.write(path, tables.REPORT, [], stage_key="k")
    with pytest.raises(BadInput, match="contains table report version 1, expected clips"):
        tables.read(path, tables.CLIPS)
    path.write_bytes(b"not parquet")
    with pytest.raises(BadInput, match="not a readable report table"):
        tables.read(path, tables.REPORT)
