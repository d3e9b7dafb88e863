"""Starts the training processes, listens to them, and sees to it that none is left behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mimix_core
from mimix_core.errors import BadInput, MimixError, StageFailed, Transient
from mimix_core.settings import LoraSettings
from mimix_core.training.worker_messages import (
    BadInputMessage,
    FailedMessage,
    FinishedMessage,
    ProgressMessage,
    TrainingJob,
    parse_message,
)

WORKER_COMMAND = (sys.executable, "-m", "mimix_core.training")
"""What each process runs; the job's file and the messages' file descriptor follow."""

STOPPED_EXIT_CODE = 128 + signal.SIGTERM
"""How a training process ends that was asked to: as shells report one that SIGTERM ended."""

JOB_FILE = "job.json"
RENDEZVOUS_FILE = "rendezvous"
_LOG_TAIL_LINES = 30
_WORK = "mimix-training-"
# For the peers of a process that broke: they may hang in a collective and never look up.
_BROKEN_GRACE_SECONDS = 5.0
TERMINATION_GRACE_SECONDS = 120.0
"""Enough to end a pass on the largest model and write a checkpoint."""


@dataclass(frozen=True)
class RankProcess:
    """One training process and its log."""

    rank: int
    process: subprocess.Popen[bytes]
    log: Path

    def log_tail(self) -> str:
        """How it ended, and the end of its log."""
        code = self.process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return "\n".join([f"training process {self.rank} {how}; its last words:", *lines])

    def exit_error(self) -> MimixError:
        """The error of a process that ended badly and did not say why.

        What a signal ended may do better next time; and it goes on from its last checkpoint.
        """
        code = self.process.returncode
        kind = Transient if code < 0 or code == STOPPED_EXIT_CODE else StageFailed
        return kind(self.log_tail())


class ProcessGroup:
    """The processes of one job.

    Each leads its own process group: a terminal's Ctrl-C reaches only this process, which then
    ends them in order.
    """

    def __init__(
        self, job_file: Path, job: TrainingJob, log_path: Path, program: Sequence[str]
    ) -> None:
        messages, their_end = os.pipe()
        self.messages = messages
        # Its other end is the children's stdin: it closes when this process dies, however it dies.
        stdin, lifeline = os.pipe()
        self._open = [messages, lifeline]
        command = [*program, str(job_file), str(their_end)]
        self.ranks: list[RankProcess] = []
        for number in range(job.settings.num_processes):
            path = log_path if number == 0 else log_path.with_suffix(f".{number}.log")
            with path.open("wb") as log:
                process = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(number, job.settings),
                    pass_fds=[their_end],
                    process_group=0,
                )
            self.ranks.append(RankProcess(number, process, path))
        os.close(stdin)
        os.close(their_end)

    def signal_all(self, number: signal.Signals) -> None:
        for rank in self.ranks:
            if rank.process.poll() is None:
                os.killpg(rank.process.pid, number)

    def terminate(self, grace_seconds: float) -> None:
        """SIGTERM for those that still run, SIGKILL after ``grace_seconds``; then all are gone."""
        self.signal_all(signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while time.monotonic() < deadline and any(r.process.poll() is None for r in self.ranks):
            time.sleep(0.05)
        self.signal_all(signal.SIGKILL)
        for rank in self.ranks:
            rank.process.wait()
        for descriptor in self._open:
            os.close(descriptor)
        self._open = []

    def first_failed(self) -> RankProcess | None:
        """The first process that has ended badly."""
        return next((rank for rank in self.ranks if rank.process.poll()), None)


def run_job(
    job: TrainingJob,
    log_path: Path,
    advance: Callable[[int, int, str], None],
    *,
    grace_seconds: float = TERMINATION_GRACE_SECONDS,
    command: Sequence[str] = WORKER_COMMAND,
) -> FinishedMessage:
    """Run ``job`` in ``settings.processes`` processes to its end; their output goes to the log.

    Raises BadInput and StageFailed as the training does. When a process ends badly otherwise, with
    the log's last lines: Transient if a signal ended it, else StageFailed; the others are ended
    then. A SIGTERM is passed on, and acts here when they are gone.
    """
    with _deferred_sigterm() as terminated, tempfile.TemporaryDirectory(prefix=_WORK) as work:
        job_file = Path(work) / JOB_FILE
        whole = job.model_copy(update={"rendezvous": Path(work) / RENDEZVOUS_FILE})
        job_file.write_text(whole.model_dump_json())
        launched = ProcessGroup(job_file, job, log_path, program)
        try:
            last = _listen(launched, advance, terminated)
            broken = launched.first_failed()
        finally:
            launched.terminate(grace_seconds if terminated.is_set() else _BROKEN_GRACE_SECONDS)
    if isinstance(last, BadInputMessage):
        raise BadInput(last.what, where=last.where, fix=last.fix)
    if isinstance(last, FailedMessage):
        raise Transient(last.message) if last.retryable else StageFailed(last.message)
    if broken is not None or last is None:
        raise (broken or launched.ranks[0]).exit_error()
    return last


def _listen(
    launched: ProcessGroup, advance: Callable[[int, int, str], None], terminated: threading.Event
) -> FinishedMessage | BadInputMessage | FailedMessage | None:
    """Pass progress on until all processes are gone, one has ended badly, or we are to end.

    Gives what was said last that was not progress.
    """
    last: FinishedMessage | BadInputMessage | FailedMessage | None = None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(launched.messages, selectors.EVENT_READ)
        while not terminated.is_set():
            ready = selector.select(timeout=0.2)
            chunk = os.read(launched.messages, 65536) if ready else b""
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                message = parse_message(line.decode())
                if isinstance(message, ProgressMessage):
                    advance(message.done, message.total, message.note)
                else:
                    last = message
            if ready and not chunk:
                # All have closed their end: they are gone, or about to be.
                for rank in launched.ranks:
                    rank.process.wait()
                break
            if not ready and launched.first_failed() is not None:
                break
    return last


@contextmanager
def _deferred_sigterm() -> Iterator[threading.Event]:
    """An event that a SIGTERM sets; the signal itself acts when this context is left.

    Only the main thread may set handlers; elsewhere a SIGTERM that ends this process closes the
    lifeline, and the training ends by that.
    """
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, previous)
        if terminated.is_set():
            signal.raise_signal(signal.SIGTERM)


def _environment(rank: int, settings: LoraSettings) -> dict[str, str]:
    root = str(Path(mimix_core.__file__).parent.parent)
    return {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(settings.num_processes),
        "OMP_NUM_THREADS": str(settings.threads),
        # Threads that wait by spinning take the cores from those they wait for.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        # Memory is filled to a few GB of what there is (wan.fast): none may be lost to gaps.
        "PYTORCH_CUDA_ALLOC_CONF": os.environ.get(
            "PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"
        ),
    }
