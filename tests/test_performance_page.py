"""docs/performance.md shows the figures of perf/results as they are, and leaves out none."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from perf.record import PAGE, RESULTS, figure_table

SECTIONS = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", PAGE.read_text(), re.DOTALL))


def _result(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_the_table_of_its_result(name: str) -> None:
    result = _result(name)
    assert SECTIONS[name].endswith(f"\n\n{figure_table(result)}")
    if "commit" in result:
        assert f"{result['date']}, commit {result['commit']}, " in SECTIONS[name]


def test_every_result_of_a_measuring_script_has_a_section() -> None:
    results = {path.stem: _result(path.stem) for path in RESULTS.glob("*.json")}
    measured = {
        name
        for name, result in results.items()
        if "figures" in result and result["command"].startswith("python perf/")
    }
    assert measured == SECTIONS.keys()
