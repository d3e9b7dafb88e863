"""A unit in a process of its own: whatever it does, the caller gets a clear end and no orphan."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimix_core.errors import BadInput, StageFailed, Transient
from mimix_core.store import Store
from mimix_core.unit import UnitRequest, request
from tasks.child import end_idle, run_child
from tests.tasks.obedient_stage import STAGE, ObedientInputs, ObedientSettings

ROOT = Path(__file__).parent.parent.parent


def ask(store: Store, order: str, diary: Path | None = None) -> UnitRequest:
    inputs = ObedientInputs(order=order, diary=str(diary or ""))
    log = store.root.parent / "logs" / f"{order}.log"
    return request(STAGE, store, inputs, ObedientSettings(), log)


@pytest.fixture(autouse=True)
def _no_idle_processes() -> Iterator[None]:
    yield
    end_idle(STAGE.name)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def gone(pids: list[int], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def wait_for_lines(path: Path, lines: int, seconds: float = 30) -> list[int]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() and len(path.read_text().splitlines()) >= lines:
            return [int(line) for line in path.read_text().splitlines()]
        time.sleep(0.05)
    raise AssertionError(f"{path} did not get {lines} lines")


def test_a_good_unit(store: Store, tmp_path: Path) -> None:
    heard: list[tuple[int, int, str]] = []
    reply = run_child(ask(store, "work"), timeout_seconds=60, hear=lambda *said: heard.append(said))
    assert reply.computed
    assert reply.ref is not None
    assert store.lookup(STAGE.name, reply.ref.key) == reply.ref
    assert heard == [(1, 3, "step"), (2, 3, "step"), (3, 3, "step")]
    assert "a library prints to stdout" in (tmp_path / "logs" / "work.log").read_text()


@pytest.mark.parametrize(
    ("order", "error", "words"),
    [
        ("bad input", BadInput, "here: no such thing. Do that."),
        ("transient", Transient, "the line is busy"),
        ("bug", StageFailed, "KeyError: 'oops'"),
        ("crash", StageFailed, "SIGSEGV"),
    ],
)
def test_how_it_failed_comes_back(
    store: Store, tmp_path: Path, order: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words.replace(".", r"\.")):
        run_child(
            ask(store, order),
            timeout_seconds=60,
            hear=lambda *said: None,
        )
    assert not (store.root / STAGE.name).exists()


def test_a_unit_that_hangs_is_ended_with_all_its_children(store: Store, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    with pytest.raises(StageFailed, match=r"ran longer than .* Raise run.timeout_minutes"):
        run_child(
            ask(store, "hang", diary),
            timeout_seconds=6,
            hear=lambda *said: None,
        )
    assert gone(wait_for_lines(diary, 2))


def test_when_the_caller_is_killed_the_unit_ends_too(store: Store, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from mimix_core.store import Store
        from tasks.child import end_idle, run_child
        from tests.tasks.test_child import ask
        run_child(
            ask(Store(Path({str(store.root)!r})), "hang", Path({str(diary)!r})),
            timeout_seconds=100, hear=print,
        )
        """
    )
    caller = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    pids = wait_for_lines(diary, 2)
    assert all(alive(pid) for pid in pids)
    os.kill(caller.pid, signal.SIGKILL)
    caller.wait()
    assert gone(pids)


def test_one_process_runs_the_units_of_a_stage_until_one_breaks_it(
    store: Store, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"

    def run(order: str) -> int:
        """The process that ran it."""
        asked = ask(store, order, diary)
        with contextlib.suppress(BadInput, StageFailed):  # what is raised is tested above
            run_child(asked, timeout_seconds=60, hear=lambda *said: None)
        return int(diary.read_text().splitlines()[-1].split()[1])

    first = run("work 1")
    assert run("work 2") == first
    assert run("bad input") == first, "a clean refusal breaks nothing"
    assert run("crash") == first
    second = run("work 3")
    assert second != first
    end_idle(STAGE.name)
    assert gone([first, second])
