"""Pages show control characters of texts instead of obeying them."""

from __future__ import annotations

import re
from pathlib import Path

from mimix_core.stages.report.report_page import build_template_values, render_report
from tests.stages.report.test_stage import SETTINGS
from tests.stages.report.training_tables import build_complete_run

CAPTION = "[Character: Rinky], waves \u202eevil\u2066 and \x1b[2J a\u200cb. [scene-style:cartoon]"


def test_no_text_of_the_report_reorders_or_controls_anything(tmp_path: Path) -> None:
    run = build_complete_run(tmp_path / "run", hostile=CAPTION)
    (tmp_path / "out").mkdir()
    page = render_report(build_template_values(run.inputs(), SETTINGS, tmp_path / "out"))
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", page)
    assert r"\u202eevil\u2066 and \x1b[2J" in page
    assert "a\u200cb" in page, "joiners are part of words"
