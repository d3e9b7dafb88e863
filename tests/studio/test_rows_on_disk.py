"""Rows in a temporary database are those of a dict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mimix_core.studio.rows_on_disk import RowsOnDisk

VALUES = st.none() | st.text() | st.integers() | st.floats(allow_nan=False)
ROWS = st.lists(st.tuples(st.text(max_size=3), st.dictionaries(st.text(max_size=3), VALUES)))


@given(ROWS, ROWS, ROWS)
def test_rows_are_replaced_or_not_as_in_a_dict(
    first: list[tuple[str, dict]], replaced: list[tuple[str, dict]], new: list[tuple[str, dict]]
) -> None:
    rows, expected = RowsOnDisk(), {}
    rows.put_all(first)
    expected |= dict(first)
    for name, row in replaced:
        rows.put(name, row)
        expected[name] = row
    for name, row in new:
        rows.put_new(name, row)
        expected.setdefault(name, row)
    assert dict(rows.items()) == expected
    assert all(rows.get(name) == row for name, row in expected.items())
    assert rows.get("none of them") is None
