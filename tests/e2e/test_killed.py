"""SIGKILL during a stage, then the same command again: same tables as without interruption."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimix_core.engine.registry import stage_names
from tests.e2e.conftest import FinishedDemo
from tests.e2e.demo import Demo, prefect_server

# Over within milliseconds: no kill can be aimed at them.
INSTANT = ("duplicates", "transcripts", "captions", "recaptions", "dataset", "samples")
# Latents, embeddings and videos lie elsewhere, and come into the staging folder when all are there.
ONLY_A_TABLE = ("scenes", "latents", "embeddings", "videos", "scores")
# No model that judges can be asked in the demo; tests/benchmark/judge has that drill. The other
# stages are off by default.
NOT_IN_THE_DEMO = (
    *("judgements", "duels", "regions", "layouts", "character_scores"),
    *("voices", "speakers"),
)
# A minute each: one that makes files of its rows, and one that keeps what a killed attempt made.
ALWAYS = ("clips", "videos")
ONLY_DRILLED = [name for name in stage_names() if name not in (*ALWAYS, *INSTANT, *NOT_IN_THE_DEMO)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Prefect server that outlives the killed runs."""
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.e2e) for name in ALWAYS),
        *(pytest.param(name, marks=pytest.mark.drill) for name in ONLY_DRILLED),
    ],
)
def test_killed_in_the_middle_it_finishes_with_the_same_digests(
    finished: FinishedDemo, server: str, tmp_path: Path, name: str
) -> None:
    """The stage's results are removed, so a run computes them again and is killed meanwhile.

    Later stages' keys follow from this stage's table: were it to differ in one byte, they would
    be computed anew and the digests below would not agree.
    """
    expected = finished.demo.digests()
    demo = finished.demo.copy(tmp_path / "copy", server=server)
    shutil.rmtree(demo.store.root / name)
    process = demo.start()
    half_done = kill_in_the_middle(demo, process, name)
    assert half_done.exists(), "the killed run had no chance to tidy up"
    assert len(demo.records(name)) < len(finished.demo.records(name))
    demo.run()
    assert demo.digests() == expected
    assert demo.staging(name) == []


def kill_in_the_middle(demo: Demo, process: subprocess.Popen[bytes], name: str) -> Path:
    """Kill the run while it has a staging folder of the stage; return that folder.

    It is stopped first: what it finished in the meantime was no middle, and it may go on.
    """
    while True:
        half_done = wait_until_in_the_middle(demo, name)
        os.kill(process.pid, signal.SIGSTOP)
        if half_done.exists():
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return half_done
        os.kill(process.pid, signal.SIGCONT)


def wait_until_in_the_middle(demo: Demo, name: str, seconds: float = 120) -> Path:
    """Wait until the stage has written a file but not finished; return its staging folder.

    A stage that writes nothing but its table is in the middle a little after it began.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for folder in demo.staging(name):
            if name in ONLY_A_TABLE:
                time.sleep(0.3)
                return folder
            if any(path.is_file() and path.stat().st_size > 0 for path in folder.rglob("*")):
                return folder
        time.sleep(0.02)
    raise AssertionError(f"stage {name} was never seen at work")
