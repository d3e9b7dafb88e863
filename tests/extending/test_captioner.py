"""docs/extending/captioner.md, followed literally."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimix_core.errors import BadInput
from mimix_core.stages.captions.custom_captioner import load_captioner
from tests.extending.pages import follow


@pytest.mark.e2e
def test_the_page_gives_a_working_captioner(tmp_path: Path) -> None:
    printed = follow("captioner", tmp_path)
    [line] = [line for line in printed.splitlines() if "captions  " in line]
    assert "1 ok, 1 rejected" in line


def test_a_captioner_under_another_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_captioners").mkdir()
    (tmp_path / "other_captioners" / "renamed.py").write_text(
        "from mimix_core.stages.captions.custom_captioner import Captioner\n"
        "CAPTIONER = Captioner('another.name', lambda: lambda clip: None)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match=r"is named another\.name"):
        load_captioner("other_captioners.renamed")
