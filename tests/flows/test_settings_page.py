"""docs/settings.md is generated from the settings models."""

from __future__ import annotations

from typer.testing import CliRunner

from flows.cli import app
from mimix_core.settings.settings_reference import settings_sections
from tests.paths import ROOT


def test_the_page_of_settings_is_up_to_date() -> None:
    result = CliRunner().invoke(app, ["settings", "--markdown"])
    assert result.exit_code == 0, result.output
    page = ROOT / "docs" / "settings.md"
    assert page.read_text() == result.output, "run the command that the page names"


def test_one_section_in_a_narrow_shell_is_complete() -> None:
    result = CliRunner().invoke(app, ["settings", "clips"], env={"COLUMNS": "50"})
    assert result.exit_code == 0, result.output
    assert "…" not in result.output
    unknown = CliRunner().invoke(app, ["settings", "clip"])
    assert unknown.exit_code == 2
    assert "Sections: run, scenes" in unknown.output


def test_nested_settings_have_complete_keys() -> None:
    keys = {entry.key for section in settings_sections() for entry in section.entries}
    assert {"library", "clips.min_motion", "cutouts.face.max_distance"} <= keys
    assert "captions.vlm.budget_usd" in keys
    assert "judge.vlm.model" in keys, "also of an optional group"
