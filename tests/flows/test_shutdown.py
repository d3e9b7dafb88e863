"""A run that is ended from outside: its units go at once, and no file is blamed for it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from mimix_core.engine.store import Store
from mimix_core.engine.worker import build_request
from tasks import subprocess_runner
from tests.tasks.obedient_stage import STAGE, ObedientInputs, ObedientSettings


def test_a_unit_that_is_ended_with_its_run_did_not_die_of_its_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage could answer for a file that killed its reader, and must not be asked to."""
    monkeypatch.setattr(subprocess_runner, "_leaving", threading.Event())
    diary = tmp_path / "diary"
    inputs = ObedientInputs(order="hang", diary=str(diary))
    asked = build_request(STAGE, store, inputs, ObedientSettings(), tmp_path / "log")
    raised: list[BaseException] = []

    def work() -> None:
        try:
            subprocess_runner.run_in_subprocess(asked, timeout_seconds=None, hear=lambda *said: None)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not diary.exists() or diary.read_text().count("\n") < 2:
        time.sleep(0.05)
    processes = [int(word) for word in diary.read_text().split()]
    began = time.monotonic()
    subprocess_runner.terminate_all_units()
    assert time.monotonic() - began < 2 * subprocess_runner.GRACE_SECONDS
    thread.join()
    assert [type(error) for error in raised] == [subprocess_runner.RunCancelled]
    assert not any(alive(pid) for pid in processes)
    assert not list(store.records())
    with pytest.raises(subprocess_runner.RunCancelled):
        subprocess_runner.run_in_subprocess(asked, timeout_seconds=None, hear=lambda *said: None)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
