"""How far a stage is, in lines of a log."""

from __future__ import annotations

import io

import pytest

from tasks import console_progress
from tasks.console_progress import ConsoleProgress
from tasks.safe_console import SafeConsole


def test_a_unit_that_waits_before_any_step_is_done_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(console_progress, "SECONDS_BETWEEN_LINES", 0)
    log = io.StringIO()
    progress = ConsoleProgress(SafeConsole(file=log))
    with progress.stage("videos", 2):
        progress.update("videos", "1-8", 0, 100, "waiting for a free device")
        progress.update("videos", "1-8", 50, 100, "a")
        progress.update("videos", "1-8", 100, 100, "b")
        progress.update("videos", "9-16", 100, 100, "c")
    first, second, *_, last = log.getvalue().splitlines()
    assert first.split() == ["videos", "0.0", "of", "2", "units"]
    assert second.split()[1:5] == ["0.5", "of", "2", "units,"]
    assert last.split()[1:] == ["2.0", "of", "2", "units,", "about", "0", "s", "left"]
