"""docs/extending/backbone.md, followed literally."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.errors import BadInput
from mimix_core.settings import BackboneSettings
from mimix_core.wan import model_registry
from tests.extending.pages import follow


@pytest.mark.e2e
def test_the_page_gives_a_working_backbone(tmp_path: Path) -> None:
    assert "loss is finite: True" in follow("backbone", tmp_path)


def test_the_settings_take_a_module_and_no_other_name() -> None:
    assert BackboneSettings(name="my_backbones.small").name == "my_backbones.small"
    with pytest.raises(ValueError, match="name"):
        BackboneSettings(name="wan9")


def test_a_backbone_under_another_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_backbones").mkdir()
    (tmp_path / "other_backbones" / "renamed.py").write_text(
        "from mimix_core.wan.model_registry import TINY\nBACKBONE = TINY\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match="is named tiny-random-wan"):
        model_registry.get_backbone("other_backbones.renamed")
