"""Two machines, one workspace: processes that know nothing of each other ask for the same units."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.store import Store
from tests.tasks.obedient_stage import STAGE

ROOT = Path(__file__).parent.parent.parent


def machine(store: Store, diary: Path, *orders: str) -> subprocess.Popen[str]:
    """A process that asks for these units one after another and prints their references."""
    words = [sys.executable, "-m", "tests.scale.diarist", str(store.root), str(diary), *orders]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def answers(asked: subprocess.Popen[str]) -> list[TableRef]:
    printed, _ = asked.communicate(timeout=120)
    assert asked.returncode == 0
    return [TableRef.model_validate_json(line) for line in printed.splitlines()]


def test_a_unit_that_two_machines_take_at_once_is_computed_once(
    store: Store, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    both = [machine(store, diary, "slow", "work 1", "work 2") for _ in range(2)]
    first, second = (answers(asked) for asked in both)
    assert first == second
    assert all(store.lookup(STAGE.name, ref.key) == ref for ref in first)
    written = [line.rsplit(" ", 1)[0] for line in diary.read_text().splitlines()]
    assert sorted(written) == ["slow", "work 1", "work 2"]
    assert not list((store.root / Store.CLAIMS).iterdir())


def test_when_a_machine_dies_the_one_that_waits_takes_the_unit_over(
    store: Store, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    dies = machine(store, diary, "slow")
    deadline = time.monotonic() + 60
    while not diary.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    waits = machine(store, diary, "slow")
    time.sleep(1)
    dies.send_signal(signal.SIGKILL)
    dies.wait()
    [ref] = answers(waits)
    assert store.lookup(STAGE.name, ref.key) == ref
    assert len(diary.read_text().splitlines()) == 2


class Impatient(Store):
    """Looks for a claim as often as it can, so that a test meets all the moments in between."""

    CLAIM_POLL_SECONDS: ClassVar[float] = 0.0


def test_never_two_hold_one_claim(tmp_path: Path) -> None:
    """Many threads take and give up one claim; each removes its file, which the others may see."""
    store = Impatient(tmp_path / "store")
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
    assert waited, "they did meet"
    assert not store.is_claimed("pages", "k")
