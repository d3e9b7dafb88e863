"""A log keeps complete lines, whatever a crash left behind them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.engine.jsonl_log import JsonlLog, MalformedLog, read_records

RECORDS = [{"text": "zwölf ねこ"}, {"text": "Boxkämpfer"}]


@given(lost=st.integers(0, 40))
def test_a_last_line_that_was_cut_anywhere_is_ignored_and_then_removed(
    lost: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also within a character of several bytes."""
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    JsonlLog.create(path, RECORDS).close()
    content = path.read_bytes()
    last_line = content.rindex(b"\n", 0, -1) + 1
    path.write_bytes(content[: max(len(content) - lost, last_line)])
    expected = RECORDS[: 2 if lost == 0 else 1]
    assert read_records(path) == expected
    log = JsonlLog.resume(path)
    log.append({"text": "weiter"})
    log.close()
    assert read_records(path) == [*expected, {"text": "weiter"}]


def test_a_damaged_line_before_the_last_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes('{"text": "zw\u00f6lf"}\n'.encode()[:-9] + b'\n{"text": "a"}\n')
    with pytest.raises(MalformedLog, match=r"log\.jsonl has a malformed line"):
        read_records(path)
