"""docs/reasons.md is generated from the guides, which cover every reason and name real settings."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.settings.settings_reference import settings_sections
from mimix_core.tables import Reason
from mimix_core.tables.reason_guide import REASON_GUIDES
from tests.paths import ROOT


def test_the_page_of_reasons_is_up_to_date() -> None:
    result = CliRunner().invoke(app, ["reasons", "--markdown"])
    assert result.exit_code == 0, result.output
    page = ROOT / "docs" / "reasons.md"
    assert page.read_text() == result.output, "run the command that the page names"


def test_every_reason_has_a_guide() -> None:
    assert set(REASON_GUIDES) == set(Reason)


@pytest.mark.parametrize("reason", list(Reason))
def test_guides_name_settings_and_commands_that_exist(reason: Reason) -> None:
    guide = REASON_GUIDES[reason]
    known = {entry.key for section in settings_sections() for entry in section.entries}
    assert [key for key in guide.settings if key not in known] == []
    assert guide.advice.endswith(".")
    root = get_command(app)
    for words in re.findall(r"`mimix ([a-z -]+)", guide.advice):
        command = root
        for word in words.split():
            command = command.commands[word]  # type: ignore[attr-defined]


def test_the_shell_prints_what_was_asked_for() -> None:
    result = CliRunner().invoke(app, ["reasons", "scene_too_short"], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    assert "clips.frames" in result.output
    assert "scene_black" not in result.output
