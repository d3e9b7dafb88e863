"""A unit in a process of its own: whatever it does, the caller gets a clear end and no orphan."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimix_core.engine.store import Store
from mimix_core.engine.worker import UnitRequest, build_request
from mimix_core.errors import BadInput, StageFailed, Transient
from mimix_core.tables import Reason
from tasks import subprocess_runner
from tasks.subprocess_runner import UnitDied, run_in_subprocess, stop_idle_units
from tests.tasks.obedient_stage import STAGE, ObedientInputs, ObedientSettings

ROOT = Path(__file__).parent.parent.parent


def ask(
    store: Store, order: str, diary: Path | None = None, memory_bytes: int | None = None
) -> UnitRequest:
    inputs = ObedientInputs(order=order, diary=str(diary or ""))
    log = store.root.parent / "logs" / f"{order}.log"
    return build_request(STAGE, store, inputs, ObedientSettings(), log, memory_bytes=memory_bytes)


@pytest.fixture(autouse=True)
def _no_idle_processes() -> Iterator[None]:
    yield
    stop_idle_units(STAGE.name)


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
    reply = run_in_subprocess(ask(store, "work"), timeout_seconds=60, on_progress=lambda *said: heard.append(said))
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
        run_in_subprocess(
            ask(store, order),
            timeout_seconds=60,
            on_progress=lambda *said: None,
        )
    assert not (store.root / STAGE.name).exists()


def test_a_unit_that_hangs_is_ended_with_all_its_children(store: Store, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    with pytest.raises(StageFailed, match=r"ran longer than .* Raise run.timeout_minutes"):
        run_in_subprocess(
            ask(store, "hang", diary),
            timeout_seconds=6,
            on_progress=lambda *said: None,
        )
    assert gone(wait_for_lines(diary, 2))


@pytest.mark.parametrize(
    ("order", "detail"),
    [
        ("crash", "the process that read the file ended by signal SIGSEGV"),
        ("leave", "the process that read the file ended by exit code 7"),
        ("leave a child behind", "the process that read the file ended by signal SIGKILL"),
        ("eat memory", "the process that read the file ran out of memory"),
    ],
)
def test_a_dead_process_is_told_from_a_stage_that_fails(
    store: Store, order: str, detail: str
) -> None:
    """The detail goes into a table: it names no path and no process."""
    asked = ask(store, order, memory_bytes=2_000_000_000)
    with pytest.raises(UnitDied) as caught:
        run_in_subprocess(asked, timeout_seconds=60, on_progress=lambda *said: None)
    assert (caught.value.reason, caught.value.detail) == (Reason.DECODER_CRASHED, detail)
    assert caught.value.is_retryable


def test_an_error_that_nobody_foresaw_may_be_the_files_fault(store: Store) -> None:
    with pytest.raises(UnitDied, match="KeyError: 'oops'") as caught:
        run_in_subprocess(ask(store, "bug"), timeout_seconds=60, on_progress=lambda *said: None)
    assert caught.value.reason is Reason.UNFORESEEN_ERROR
    assert caught.value.detail.endswith("an unexpected KeyError")
    assert not caught.value.is_retryable


def test_a_full_disk_is_no_units_fault(store: Store) -> None:
    with pytest.raises(StageFailed, match="No space left") as caught:
        run_in_subprocess(ask(store, "full disk"), timeout_seconds=60, on_progress=lambda *said: None)
    assert not isinstance(caught.value, UnitDied)


def test_a_memory_limit_ends_with_the_request_that_set_it(store: Store) -> None:
    run_in_subprocess(ask(store, "work", memory_bytes=10**9), timeout_seconds=60, on_progress=lambda *said: None)
    run_in_subprocess(ask(store, "eat memory"), timeout_seconds=60, on_progress=lambda *said: None)


def test_silence_is_told_from_slowness(store: Store, tmp_path: Path) -> None:
    heard: list[int] = []
    with pytest.raises(UnitDied, match=r"reported no progress for 0.05 minutes .* Raise run.stall") as died:
        run_in_subprocess(
            ask(store, "go silent"),
            timeout_seconds=100,
            stall_seconds=3,
            on_progress=lambda done, total, note: heard.append(done),
        )
    assert heard == [0, 1, 2, 3]
    assert (died.value.reason, died.value.is_retryable) == (Reason.DECODER_HUNG, True)
    with pytest.raises(UnitDied, match="ran longer than") as died:
        run_in_subprocess(
            ask(store, "go silent"),
            timeout_seconds=4,
            stall_seconds=30,
            on_progress=lambda *said: None,
        )
    assert (died.value.reason, died.value.is_retryable) == (Reason.DECODER_HUNG, False)


def test_the_kernel_takes_a_unit_first(store: Store, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    run_in_subprocess(ask(store, "work", diary), timeout_seconds=60, on_progress=lambda *said: None)
    pid = diary.read_text().split()[-1]
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == 800


def test_an_idle_process_that_died_is_noticed(store: Store, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    run_in_subprocess(ask(store, "work", diary), timeout_seconds=60, on_progress=lambda *said: None)
    os.kill(int(diary.read_text().split()[-1]), signal.SIGKILL)
    with pytest.raises(UnitDied, match="SIGKILL"):
        run_in_subprocess(ask(store, "work 2"), timeout_seconds=60, on_progress=lambda *said: None)
    fresh = run_in_subprocess(ask(store, "work 2"), timeout_seconds=60, on_progress=lambda *said: None)
    assert fresh.computed


def test_when_the_caller_is_killed_the_unit_ends_too(store: Store, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from mimix_core.engine.store import Store
        from tasks.subprocess_runner import end_idle, run_child
        from tests.tasks.test_subprocess_runner import ask
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
            run_in_subprocess(asked, timeout_seconds=60, on_progress=lambda *said: None)
        return int(diary.read_text().splitlines()[-1].split()[1])

    first = run("work 1")
    assert run("work 2") == first
    assert run("bad input") == first, "a clean refusal breaks nothing"
    assert run("crash") == first
    second = run("work 3")
    assert second != first
    stop_idle_units(STAGE.name)
    assert gone([first, second])


def test_a_process_that_waits_too_long_for_a_unit_is_ended(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a worker of a cluster nobody says that a stage is over."""
    monkeypatch.setattr(subprocess_runner, "IDLE_SECONDS", 0.5)
    diary = tmp_path / "diary"
    run_in_subprocess(ask(store, "work 1", diary), timeout_seconds=60, on_progress=lambda *said: None)
    run_in_subprocess(ask(store, "work 2", diary), timeout_seconds=60, on_progress=lambda *said: None)
    pids = {int(line.split()[1]) for line in diary.read_text().splitlines()}
    assert gone(list(pids))
    fresh = run_in_subprocess(ask(store, "work 3", diary), timeout_seconds=60, on_progress=lambda *said: None)
    assert fresh.computed


def test_a_death_comes_home_from_another_process() -> None:
    died = UnitDied("words", Reason.DECODER_HUNG, "detail", again=False)
    again = pickle.loads(pickle.dumps(died))
    assert str(again) == "words"
    assert (again.reason, again.detail, again.again) == (Reason.DECODER_HUNG, "detail", False)
