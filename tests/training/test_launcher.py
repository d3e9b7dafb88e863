"""The launcher with small programs instead of training: every way a process can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mimix_core.errors import BadInput, StageFailed, Transient
from mimix_core.settings import LoraSettings
from mimix_core.training.launcher import STOPPED_EXIT_CODE, run_job
from mimix_core.training.worker_messages import TrainingJob
from tests.training.factories import CARD

PRELUDE = """
import os, signal, sys, time
from mimix_core.training.worker_messages import (
    BadInputMessage, FailedMessage, FinishedMessage, ProgressMessage, TrainingJob,
)
job = TrainingJob.model_validate_json(open(sys.argv[1]).read())
out = os.fdopen(int(sys.argv[2]), "w", buffering=1)
rank = int(os.environ["RANK"])
def tell(message): out.write(message.model_dump_json() + "\\n")
"""


def job(folder: Path, processes: int = 1) -> TrainingJob:
    settings = LoraSettings(global_batch_size=processes, num_processes=processes, threads=1)
    return TrainingJob(
        settings=settings, transformer=folder, train=(), val=(), out=folder, adapter_metadata=CARD
    )


def launch(folder: Path, program: str, processes: int = 1):
    path = folder / "program.py"
    path.write_text(PRELUDE + program)
    heard: list[tuple[int, int, str]] = []
    finished = run_job(
        job(folder, processes),
        folder / "train.log",
        lambda *said: heard.append(said),
        grace_seconds=5,
        command=(sys.executable, str(path)),
    )
    return finished, heard


def test_progress_notes_and_output_are_returned(tmp_path: Path) -> None:
    finished, heard = launch(
        tmp_path,
        """
print("hello from", rank, os.environ["WORLD_SIZE"], os.environ["OMP_NUM_THREADS"])
if rank == 0:
    tell(ProgressMessage(done=1, total=2, note="loss 0.5"))
    tell(ProgressMessage(done=2, total=2, note="loss 0.4"))
    tell(FinishedMessage(notes={"steps": 2}))
""",
        processes=2,
    )
    assert finished.notes == {"steps": 2}
    assert heard == [(1, 2, "loss 0.5"), (2, 2, "loss 0.4")]
    assert (tmp_path / "train.log").read_text() == "hello from 0 2 1\n"
    assert (tmp_path / "train.1.log").read_text() == "hello from 1 2 1\n"


def test_bad_input_in_training_is_raised_as_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"lora.target_modules: no such layer. Name another."):
        launch(
            tmp_path,
            "tell(BadInputMessage("
            'what="no such layer", where="lora.target_modules", fix="Name another."))\n'
            "sys.exit(1)",
        )


@pytest.mark.parametrize(("again", "error"), [(False, StageFailed), (True, Transient)])
def test_a_reported_failure_is_raised_with_its_message(
    tmp_path: Path, again: bool, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^non-finite loss$"):
        launch(
            tmp_path,
            f'tell(FailedMessage(message="non-finite loss", retryable={again}))\n'
            "print('a traceback'); sys.exit(1)",
        )


def test_a_stopped_process_is_retryable(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="stopped in step 3"):
        launch(tmp_path, f'print("stopped in step 3"); sys.exit({STOPPED_EXIT_CODE})')


def test_the_error_has_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"(?s)process 0 exited with 3.*out of memory"):
        launch(tmp_path, 'print("out of memory"); sys.exit(3)')


def test_an_exit_without_a_result_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="process 0 exited with 0"):
        launch(tmp_path, "")


def test_one_failed_process_terminates_the_others(tmp_path: Path) -> None:
    program = """
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
(job.out / "peer").write_text(str(os.getpid()))
time.sleep(60)
"""
    started = time.monotonic()
    with pytest.raises(Transient, match="process 1 was killed by SIGKILL"):
        launch(tmp_path, program, processes=2)
    assert time.monotonic() - started < 20
    peer = tmp_path / "peer"
    assert not peer.exists() or not alive(int(peer.read_text()))


PARENT = """
import sys
from pathlib import Path
from tests.training.test_launcher import launch
launch(Path(sys.argv[1]), Path(sys.argv[2]).read_text())
"""


def start_parent(folder: Path, program: str) -> tuple[subprocess.Popen[bytes], int]:
    """A process that runs a job, and the job's process; both are running."""
    (folder / "parent.py").write_text(PARENT)
    (folder / "child.txt").write_text(program)
    root = Path(__file__).parent.parent.parent
    parent = subprocess.Popen(
        [sys.executable, str(folder / "parent.py"), str(folder), str(folder / "child.txt")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(folder)},
    )
    wait_until(lambda: (folder / "pid").exists() and (folder / "pid").read_text().endswith("\n"))
    return parent, int((folder / "pid").read_text())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_sigterm_stops_training_gracefully_and_then_the_parent(tmp_path: Path) -> None:
    parent, child = start_parent(
        tmp_path,
        """
def leave(*_):
    (job.out / "left").write_text("in order")
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
(job.out / "pid").write_text(f"{os.getpid()}\\n")
time.sleep(60)
""",
    )
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(20) == -signal.SIGTERM
    assert (tmp_path / "left").read_text() == "in order"
    assert not alive(child)


def test_killing_the_parent_stops_training(tmp_path: Path) -> None:
    # The lifeline as training itself holds it; the loop in place of steps.
    parent, child = start_parent(
        tmp_path,
        """
import threading
from mimix_core.training.__main__ import _stop_when_orphaned
stop = threading.Event()
threading.Thread(target=_stop_when_orphaned, args=(stop,), daemon=True).start()
(job.out / "pid").write_text(f"{os.getpid()}\\n")
stop.wait(60)
""",
    )
    parent.kill()
    parent.wait(20)
    wait_until(lambda: not alive(child), seconds=10)
