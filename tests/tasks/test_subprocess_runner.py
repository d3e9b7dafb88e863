"""Units in subprocesses: every outcome is reported, and no process is left behind."""

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
from tests.paths import ROOT
from tests.tasks.fake_stage import STAGE, FakeInputs, FakeSettings


def make_request(
    store: Store, behavior: str, run_log: Path | None = None, memory_bytes: int | None = None
) -> UnitRequest:
    inputs = FakeInputs(behavior=behavior, run_log=str(run_log or ""))
    log = store.root.parent / "logs" / f"{behavior}.log"
    return build_request(STAGE, store, inputs, FakeSettings(), log, memory_bytes=memory_bytes)


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
    reported: list[tuple[int, int, str]] = []
    reply = run_in_subprocess(
        make_request(store, "work"),
        timeout_seconds=60,
        on_progress=lambda *progress: reported.append(progress),
    )
    assert reply.computed
    assert reply.ref is not None
    assert store.lookup(STAGE.name, reply.ref.key) == reply.ref
    assert reported == [(1, 3, "step"), (2, 3, "step"), (3, 3, "step")]
    assert "a library prints to stdout" in (tmp_path / "logs" / "work.log").read_text()


@pytest.mark.parametrize(
    ("behavior", "error", "message"),
    [
        ("bad input", BadInput, "here: no such thing. Do that."),
        ("transient", Transient, "the line is busy"),
        ("bug", StageFailed, "KeyError: 'oops'"),
        ("crash", StageFailed, "SIGSEGV"),
    ],
)
def test_the_error_of_a_unit_is_raised_in_the_caller(
    store: Store, tmp_path: Path, behavior: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message.replace(".", r"\.")):
        run_in_subprocess(
            make_request(store, behavior),
            timeout_seconds=60,
            on_progress=lambda *progress: None,
        )
    assert not (store.root / STAGE.name).exists()


def test_a_unit_that_hangs_is_terminated_with_all_its_children(
    store: Store, tmp_path: Path
) -> None:
    run_log = tmp_path / "run_log"
    with pytest.raises(StageFailed, match=r"ran longer than .* Raise run.timeout_minutes"):
        run_in_subprocess(
            make_request(store, "hang", run_log),
            timeout_seconds=6,
            on_progress=lambda *progress: None,
        )
    assert gone(wait_for_lines(run_log, 2))


@pytest.mark.parametrize(
    ("behavior", "detail"),
    [
        ("crash", "the process that read the file ended by signal SIGSEGV"),
        ("leave", "the process that read the file ended by exit code 7"),
        ("leave a child behind", "the process that read the file ended by signal SIGKILL"),
        ("eat memory", "the process that read the file ran out of memory"),
    ],
)
def test_a_dead_process_is_distinguished_from_a_stage_that_fails(
    store: Store, behavior: str, detail: str
) -> None:
    """The detail is stored in a table, so it contains no path and no process id."""
    request = make_request(store, behavior, memory_bytes=2_000_000_000)
    with pytest.raises(UnitDied) as caught:
        run_in_subprocess(request, timeout_seconds=60, on_progress=lambda *progress: None)
    assert (caught.value.reason, caught.value.detail) == (Reason.DECODER_CRASHED, detail)
    assert caught.value.is_retryable


def test_an_unexpected_error_may_be_the_fault_of_the_file(store: Store) -> None:
    with pytest.raises(UnitDied, match="KeyError: 'oops'") as caught:
        run_in_subprocess(
            make_request(store, "bug"), timeout_seconds=60, on_progress=lambda *progress: None
        )
    assert caught.value.reason is Reason.UNFORESEEN_ERROR
    assert caught.value.detail.endswith("an unexpected KeyError")
    assert not caught.value.is_retryable


def test_a_full_disk_is_not_the_fault_of_the_unit(store: Store) -> None:
    with pytest.raises(StageFailed, match="the disk is full") as caught:
        run_in_subprocess(
            make_request(store, "full disk"), timeout_seconds=60, on_progress=lambda *progress: None
        )
    assert not isinstance(caught.value, UnitDied)


def test_a_memory_limit_ends_with_the_request_that_set_it(store: Store) -> None:
    run_in_subprocess(
        make_request(store, "work", memory_bytes=10**9),
        timeout_seconds=60,
        on_progress=lambda *progress: None,
    )
    run_in_subprocess(
        make_request(store, "eat memory"), timeout_seconds=60, on_progress=lambda *progress: None
    )


def test_a_stall_is_distinguished_from_slowness(store: Store, tmp_path: Path) -> None:
    reported: list[int] = []
    with pytest.raises(
        UnitDied, match=r"reported no progress for 0.05 minutes .* Raise run.stall"
    ) as died:
        run_in_subprocess(
            make_request(store, "go silent"),
            timeout_seconds=100,
            stall_seconds=3,
            on_progress=lambda done, total, note: reported.append(done),
        )
    assert reported == [0, 1, 2, 3]
    assert (died.value.reason, died.value.is_retryable) == (Reason.DECODER_HUNG, True)
    with pytest.raises(UnitDied, match="ran longer than") as died:
        run_in_subprocess(
            make_request(store, "go silent"),
            timeout_seconds=4,
            stall_seconds=30,
            on_progress=lambda *progress: None,
        )
    assert (died.value.reason, died.value.is_retryable) == (Reason.DECODER_HUNG, False)


def test_the_kernel_kills_a_unit_first(store: Store, tmp_path: Path) -> None:
    run_log = tmp_path / "run_log"
    run_in_subprocess(
        make_request(store, "work", run_log), timeout_seconds=60, on_progress=lambda *progress: None
    )
    pid = run_log.read_text().split()[-1]
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == 800


def test_an_idle_process_that_died_is_noticed(store: Store, tmp_path: Path) -> None:
    run_log = tmp_path / "run_log"
    run_in_subprocess(
        make_request(store, "work", run_log), timeout_seconds=60, on_progress=lambda *progress: None
    )
    os.kill(int(run_log.read_text().split()[-1]), signal.SIGKILL)
    with pytest.raises(UnitDied, match="SIGKILL"):
        run_in_subprocess(
            make_request(store, "work 2"), timeout_seconds=60, on_progress=lambda *progress: None
        )
    reply = run_in_subprocess(
        make_request(store, "work 2"), timeout_seconds=60, on_progress=lambda *progress: None
    )
    assert reply.computed


def test_when_the_caller_is_killed_the_unit_ends_too(store: Store, tmp_path: Path) -> None:
    run_log = tmp_path / "run_log"
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from mimix_core.engine.store import Store
        from tasks.subprocess_runner import run_in_subprocess
        from tests.tasks.test_subprocess_runner import make_request
        run_in_subprocess(
            make_request(Store(Path({str(store.root)!r})), "hang", Path({str(run_log)!r})),
            timeout_seconds=100, on_progress=print,
        )
        """
    )
    caller = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    pids = wait_for_lines(run_log, 2)
    assert all(alive(pid) for pid in pids)
    os.kill(caller.pid, signal.SIGKILL)
    caller.wait()
    assert gone(pids)


def test_one_process_runs_the_units_of_a_stage_until_one_breaks_it(
    store: Store, tmp_path: Path
) -> None:
    run_log = tmp_path / "run_log"

    def run(behavior: str) -> int:
        """Run a unit and return the id of its process."""
        request = make_request(store, behavior, run_log)
        with contextlib.suppress(BadInput, StageFailed):  # the errors are tested above
            run_in_subprocess(request, timeout_seconds=60, on_progress=lambda *progress: None)
        return int(run_log.read_text().splitlines()[-1].split()[1])

    first = run("work 1")
    assert run("work 2") == first
    assert run("bad input") == first, "the process survives an error with a reply"
    assert run("crash") == first
    second = run("work 3")
    assert second != first
    stop_idle_units(STAGE.name)
    assert gone([first, second])


def test_an_idle_process_is_terminated_after_a_while(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of a cluster is not notified when a stage ends."""
    monkeypatch.setattr(subprocess_runner, "IDLE_SECONDS", 0.5)
    run_log = tmp_path / "run_log"
    run_in_subprocess(
        make_request(store, "work 1", run_log),
        timeout_seconds=60,
        on_progress=lambda *progress: None,
    )
    run_in_subprocess(
        make_request(store, "work 2", run_log),
        timeout_seconds=60,
        on_progress=lambda *progress: None,
    )
    pids = {int(line.split()[1]) for line in run_log.read_text().splitlines()}
    assert gone(list(pids))
    reply = run_in_subprocess(
        make_request(store, "work 3", run_log),
        timeout_seconds=60,
        on_progress=lambda *progress: None,
    )
    assert reply.computed


def test_unit_died_survives_pickling() -> None:
    error = UnitDied("message", Reason.DECODER_HUNG, "detail", is_retryable=False)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "message"
    assert (copy.reason, copy.detail, copy.is_retryable) == (Reason.DECODER_HUNG, "detail", False)
