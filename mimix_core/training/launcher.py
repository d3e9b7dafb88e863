"""Start the training processes, receive their messages, and terminate all of them at the end."""

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
from mimix_core.engine.child_environment import child_environment
from mimix_core.errors import BadInput, MimixError, StageFailed, Transient
from mimix_core.settings import LoraSettings
from mimix_core.settings.training_settings import tracker_secrets
from mimix_core.training.worker_messages import (
    BadInputMessage,
    FailedMessage,
    FinishedMessage,
    ProgressMessage,
    TrainingJob,
    parse_message,
)

WORKER_COMMAND = (sys.executable, "-m", "mimix_core.training")
"""Command line of a process; the job file and the message pipe's descriptor are appended."""

STOPPED_EXIT_CODE = 128 + signal.SIGTERM
"""Exit code of a training process that was asked to stop, as in shells after SIGTERM."""

JOB_FILE = "job.json"
RENDEZVOUS_FILE = "rendezvous"
_LOG_TAIL_LINES = 30
_WORK_PREFIX = "mimix-training-"
# For the peers of a failed process, which may hang in a collective call.
_FAILURE_GRACE_SECONDS = 5.0
TERMINATION_GRACE_SECONDS = 120.0
"""Enough to finish a pass of the largest model and write a checkpoint."""


@dataclass(frozen=True)
class RankProcess:
    """One training process and its log."""

    rank: int
    process: subprocess.Popen[bytes]
    log: Path

    def log_tail(self) -> str:
        """Describe how the process ended, followed by the end of its log."""
        code = self.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return "\n".join([f"training process {self.rank} {how}; the end of its log:", *lines])

    def exit_error(self) -> MimixError:
        """Return the error for a process that failed without a message.

        A process that was killed by a signal can be retried, from its last checkpoint.
        """
        code = self.process.returncode
        kind = Transient if code < 0 or code == STOPPED_EXIT_CODE else StageFailed
        return kind(self.log_tail())


class ProcessGroup:
    """The processes of one job.

    Each leads its own process group, so a terminal's Ctrl-C reaches only this process, which then
    terminates them.
    """

    def __init__(
        self, job_file: Path, job: TrainingJob, log_path: Path, command: Sequence[str]
    ) -> None:
        messages, messages_write = os.pipe()
        self.messages = messages
        # The write end of the children's stdin; it closes however this process dies.
        stdin, lifeline = os.pipe()
        self._open = [messages, lifeline]
        arguments = [*command, str(job_file), str(messages_write)]
        self.ranks: list[RankProcess] = []
        for number in range(job.settings.num_processes):
            path = log_path if number == 0 else log_path.with_suffix(f".{number}.log")
            with path.open("wb") as log:
                process = subprocess.Popen(
                    arguments,
                    stdin=stdin,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(number, job.settings),
                    pass_fds=[messages_write],
                    process_group=0,
                )
            self.ranks.append(RankProcess(number, process, path))
        os.close(stdin)
        os.close(messages_write)

    def signal_all(self, number: signal.Signals) -> None:
        for rank in self.ranks:
            if rank.process.poll() is None:
                os.killpg(rank.process.pid, number)

    def terminate(self, grace_seconds: float) -> None:
        """Terminate all processes: SIGTERM, then SIGKILL after ``grace_seconds``; wait for them."""
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
        """Return the first process with a non-zero exit code, if any."""
        return next((rank for rank in self.ranks if rank.process.poll()), None)


def run_job(
    job: TrainingJob,
    log_path: Path,
    on_progress: Callable[[int, int, str], None],
    *,
    grace_seconds: float = TERMINATION_GRACE_SECONDS,
    command: Sequence[str] = WORKER_COMMAND,
) -> FinishedMessage:
    """Run ``job`` in ``settings.num_processes`` processes; their output goes to the log.

    Raises the BadInput, StageFailed or Transient that training raises. When a process fails in
    another way, the others are terminated, and the error has the last lines of the log: Transient
    after a signal, else StageFailed. A SIGTERM is forwarded; here it takes effect after they ended.
    """
    with (
        _deferred_sigterm() as terminated,
        tempfile.TemporaryDirectory(prefix=_WORK_PREFIX) as work,
    ):
        job_file = Path(work) / JOB_FILE
        complete_job = job.model_copy(update={"rendezvous": Path(work) / RENDEZVOUS_FILE})
        job_file.write_text(complete_job.model_dump_json())
        processes = ProcessGroup(job_file, job, log_path, command)
        try:
            result = _receive_messages(processes, on_progress, terminated)
            failed = processes.first_failed()
        finally:
            processes.terminate(grace_seconds if terminated.is_set() else _FAILURE_GRACE_SECONDS)
    if isinstance(result, BadInputMessage):
        raise BadInput(result.what, where=result.where, fix=result.fix)
    if isinstance(result, FailedMessage):
        raise Transient(result.message) if result.retryable else StageFailed(result.message)
    if failed is not None or result is None:
        raise (failed or processes.ranks[0]).exit_error()
    return result


def _receive_messages(
    processes: ProcessGroup,
    on_progress: Callable[[int, int, str], None],
    terminated: threading.Event,
) -> FinishedMessage | BadInputMessage | FailedMessage | None:
    """Forward progress until all processes have ended, one has failed, or we are terminated.

    Returns the last message that is not progress.
    """
    result: FinishedMessage | BadInputMessage | FailedMessage | None = None
    remainder = b""
    with selectors.DefaultSelector() as selector:
        selector.register(processes.messages, selectors.EVENT_READ)
        while not terminated.is_set():
            ready = selector.select(timeout=0.2)
            chunk = os.read(processes.messages, 65536) if ready else b""
            *lines, remainder = (remainder + chunk).split(b"\n")
            for line in lines:
                message = parse_message(line.decode())
                if isinstance(message, ProgressMessage):
                    on_progress(message.done, message.total, message.note)
                else:
                    result = message
            if ready and not chunk:
                # All processes have closed their end: they have exited, or are about to.
                for rank in processes.ranks:
                    rank.process.wait()
                break
            if not ready and processes.first_failed() is not None:
                break
    return result


@contextmanager
def _deferred_sigterm() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets; the signal takes effect on leaving the context.

    Only the main thread can set handlers. In other threads a SIGTERM that ends this process closes
    the lifeline, which stops training.
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
    # The first process alone talks to trackers.
    secrets = tracker_secrets(settings.trackers) if rank == 0 else frozenset()
    return {
        **child_environment(secrets),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(settings.num_processes),
        "OMP_NUM_THREADS": str(settings.threads),
        # Spinning threads would take cores from the threads that they wait for.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        # Saved activations fill the memory to a few GB (wan.fast): avoid fragmentation.
        "PYTORCH_CUDA_ALLOC_CONF": os.environ.get(
            "PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"
        ),
    }
