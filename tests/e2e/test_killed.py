"""SIGKILL in the middle of a stage, then the same command again: same tables as undisturbed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import FinishedDemo
from tests.e2e.demo import Demo

pytestmark = pytest.mark.slow

WORKING = ("clips", "composites", "lora", "samples")


@pytest.mark.parametrize("name", WORKING)
def test_killed_in_the_middle_it_finishes_with_the_same_digests(
    finished: FinishedDemo, tmp_path: Path, name: str
) -> None:
    """The stage's results are taken away, so a run makes them again and is killed while it does.

    Later stages' keys follow from this stage's table: were it to differ in one byte, they would
    be computed anew and the digests below would not agree.
    """
    expected = finished.demo.digests()
    demo = finished.demo.copy(tmp_path / "copy")
    shutil.rmtree(demo.store.root / name)
    process = demo.start()
    try:
        half_done = wait_until_in_the_middle(demo, name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not demo.records(name) or len(demo.records(name)) < units(finished.demo, name)
        assert half_done.exists(), "the killed run had no chance to tidy up"
    finally:
        # The server that Prefect started for the run outlives it; it is of the same group.
        os.killpg(process.pid, signal.SIGKILL)
    demo.run()
    assert demo.digests() == expected
    assert demo.staging(name) == []


def units(demo: Demo, name: str) -> int:
    return len(demo.records(name))


def wait_until_in_the_middle(demo: Demo, name: str, seconds: float = 120) -> Path:
    """Wait until the stage has written a file and is not done; gives its staging folder."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for folder in demo.staging(name):
            if any(path.is_file() and path.stat().st_size > 0 for path in folder.rglob("*")):
                return folder
        time.sleep(0.02)
    raise AssertionError(f"stage {name} was never seen at work")
