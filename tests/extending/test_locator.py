"""docs/extending/locator.md, followed literally."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core import tables
from mimix_core.errors import BadInput
from mimix_core.stages.cutouts.locate import CustomLocatorInputs, create_locator
from tests.extending.pages import follow


@pytest.mark.e2e
def test_the_page_gives_a_working_locator(tmp_path: Path) -> None:
    follow("locator", tmp_path)
    [path] = (tmp_path / "workspace" / "store" / "cutouts").glob("*/table.parquet")
    [row] = tables.read(path, tables.CUTOUTS)
    assert row["locator"] == "my_locators.brightest"
    # A disc of radius 40 on 320 x 192.
    areas = [area for area in row["area"] if area > 0]
    assert sum(areas) / len(areas) == pytest.approx(3.1416 * 40**2 / (320 * 192), rel=0.1)


def test_a_locator_under_another_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_locators").mkdir()
    (tmp_path / "other_locators" / "renamed.py").write_text(
        "from mimix_core.stages.cutouts.locate import CustomLocator\n"
        "LOCATOR = CustomLocator('another.name', lambda characters, folder: None)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    inputs = CustomLocatorInputs(characters=(), module="other_locators.renamed")
    with pytest.raises(BadInput, match=r"is named another\.name"):
        create_locator(None, inputs, {}, tmp_path, [])
