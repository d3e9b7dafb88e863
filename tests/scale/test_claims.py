"""Independent processes, like machines with a shared workspace, request the same units."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.store import Store
from tests.paths import ROOT
from tests.tasks.fake_stage import STAGE


def machine(store: Store, run_log: Path, *behaviors: str) -> subprocess.Popen[str]:
    """Start a process that runs these units one after another and prints their references."""
    command = [
        sys.executable,
        "-m",
        "tests.scale.request_units",
        str(store.root),
        str(run_log),
        *behaviors,
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def wait_for_refs(process: subprocess.Popen[str]) -> list[TableRef]:
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return [TableRef.model_validate_json(line) for line in printed.splitlines()]


@pytest.mark.e2e
def test_a_unit_requested_by_two_machines_is_computed_once(store: Store, tmp_path: Path) -> None:
    run_log = tmp_path / "run_log"
    both = [machine(store, run_log, "slow", "work 1", "work 2") for _ in range(2)]
    first, second = (wait_for_refs(process) for process in both)
    assert first == second
    assert all(store.lookup(STAGE.name, ref.key) == ref for ref in first)
    written = [line.rsplit(" ", 1)[0] for line in run_log.read_text().splitlines()]
    assert sorted(written) == ["slow", "work 1", "work 2"]
    assert not list((store.root / Store.CLAIMS).iterdir())


@pytest.mark.e2e
def test_when_a_machine_dies_a_waiting_one_computes_the_unit(store: Store, tmp_path: Path) -> None:
    run_log = tmp_path / "run_log"
    dies = machine(store, run_log, "slow")
    deadline = time.monotonic() + 60
    while not run_log.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    waits = machine(store, run_log, "slow")
    time.sleep(1)
    dies.send_signal(signal.SIGKILL)
    dies.wait()
    [ref] = wait_for_refs(waits)
    assert store.lookup(STAGE.name, ref.key) == ref
    assert len(run_log.read_text().splitlines()) == 2


class BusyWaitingStore(Store):
    """Polls claims without a delay, to provoke every interleaving."""

    CLAIM_POLL_SECONDS: ClassVar[float] = 0.0


def test_a_claim_never_has_two_holders(tmp_path: Path) -> None:
    """Many threads acquire and release one claim; each release removes the lock file."""
    store = BusyWaitingStore(tmp_path / "store")
    holders: list[int] = []
    most: list[int] = []
    waited: list[int] = []

    def work(me: int) -> None:
        for _ in range(100):
            with store.claim("pages", "k", lambda: waited.append(me)):
                holders.append(me)
                most.append(len(holders))
                assert store.is_claimed("pages", "k")
                time.sleep(0.0001)
                holders.remove(me)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 600
    assert max(most) == 1
    assert waited, "threads did compete"
    assert not store.is_claimed("pages", "k")
