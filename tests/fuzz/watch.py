"""Give inputs to a worker process under a watch of time and memory."""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.worker import read_frame, write_frame
from tests.paths import ROOT

MAX_SECONDS = 5.0
"""Processor time of one input; on a busy machine the clock says nothing."""
MAX_WAIT_SECONDS = 60.0
"""Time by the clock, for what waits and computes nothing."""
MAX_BYTES = 1_000_000_000
"""Memory that reading one input may take, beyond what the process has already."""
_POLL_SECONDS = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Verdict:
    """What became of an input: ``kind`` is accepted, refused, error, hang, memory or died."""

    kind: str
    text: str = ""
    place: str = ""

    @property
    def is_finding(self) -> bool:
        return self.kind not in ("accepted", "refused")


class Watch:
    """A worker process, started when an input needs one and again after it was killed."""

    def __init__(self, max_seconds: float = MAX_SECONDS) -> None:
        self._max_seconds = max_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._stacks = Path(tempfile.mkstemp(prefix="mimix-fuzz-stacks-")[1])

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._stacks.unlink(missing_ok=True)

    def read(self, target: str, data: bytes) -> Verdict:
        """Let the worker read an input."""
        process = self._process or self._start()
        try:
            assert process.stdin is not None
            write_frame(process.stdin, (target, data))
            assert process.stdout is not None
            read_frame(process.stdout)  # ready, after its imports
            before = _start_of_memory(process.pid)
            answer = self._await(process)
        except (BrokenPipeError, EOFError):
            code = process.wait()
            self._stop()
            return Verdict("died", f"exit status {code}", f"process of {target}, status {code}")
        if isinstance(answer, Verdict):
            self._stop()
            return answer
        verdict = Verdict(*answer)
        peak = _peak_bytes(process.pid) - before
        if peak > MAX_BYTES or verdict.kind == "memory":
            self._stop()
            place = verdict.place or f"memory of {target}"
            return Verdict("memory", f"{peak / 1e9:.1f} GB; {verdict.text}", place)
        return verdict

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", str(self._stacks)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # what a buffer holds already, select does not see
            cwd=ROOT,
            env=environment,
            start_new_session=True,  # to be ended with the processes that it starts
        )
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
        self._process = None

    def _await(self, process: subprocess.Popen[bytes]) -> Any:
        """Return the worker's answer, or the verdict on an input that takes too long."""
        assert process.stdout is not None
        begin, used = time.monotonic(), _processor_seconds(process.pid)
        while not select.select([process.stdout], [], [], _POLL_SECONDS)[0]:
            seconds = _processor_seconds(process.pid) - used
            if seconds > self._max_seconds or time.monotonic() - begin > MAX_WAIT_SECONDS:
                stack = self._stack(process)
                return Verdict("hang", stack, f"hang in {_innermost(stack)}")
        return read_frame(process.stdout)

    def _stack(self, process: subprocess.Popen[bytes]) -> str:
        self._stacks.write_text("")
        process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 2
        while not (text := self._stacks.read_text(errors="replace")):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return text[-6000:]


def _innermost(stack: str) -> str:
    """Return the innermost line of MiMix's own code in a stack of faulthandler."""
    found = re.search(r'"[^"]*?((?:mimix_core|flows)/[^"]*)", line (\d+) in (\S+)', stack)
    return f"{found[1]}:{found[2]} ({found[3]})" if found else "an unknown place"


def _processor_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _start_of_memory(pid: int) -> int:
    """Let the peak of a process begin with what it has now, which is returned, in bytes.

    It has read inputs of other targets before, and keeps what they imported.
    """
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _peak_bytes(pid)


def _peak_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0
