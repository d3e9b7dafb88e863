"""docs/extending/metric.md, followed literally; then what the page promises beyond it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mimix_core.benchmark.metrics import select_metrics
from mimix_core.errors import BadInput
from tests.extending.pages import follow


@pytest.mark.e2e
def test_the_page_gives_a_working_metric(tmp_path: Path) -> None:
    printed = follow("metric", tmp_path)
    values = {m[1]: float(m[2]) for m in re.finditer(r"│ (\w+) +│ ([\d.e+]+)", printed)}
    assert values["sharp"] > 10 * values["blurred"]


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match=r"no Python module no_such\.module"):
        select_metrics(["sharpness/no_such.module"])


def test_a_module_without_a_metric_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty_metrics").mkdir()
    (tmp_path / "empty_metrics" / "nothing.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match="must define METRIC as a Metric, but does not define it"):
        select_metrics(["sharpness/empty_metrics.nothing"])


def test_a_metric_under_another_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_metrics").mkdir()
    (tmp_path / "other_metrics" / "named.py").write_text(
        "from mimix_core.benchmark.metrics import Metric\n"
        "METRIC = Metric('imaging_quality/brisque', True, lambda _: lambda video: 0.0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match="is named imaging_quality/brisque"):
        select_metrics(["sharpness/other_metrics.named"])
