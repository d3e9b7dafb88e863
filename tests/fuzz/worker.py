"""Read inputs in a process of its own, which the watch may kill (``tests/fuzz/watch.py``)."""

from __future__ import annotations

import faulthandler
import os
import pickle
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from pathlib import Path
from typing import IO

from mimix_core.errors import MimixError
from tests.fuzz.target import Refused, Target
from tests.fuzz.targets import get_target
from tests.paths import ROOT

_ADDRESS_SPACE = 3 << 30
"""Bytes that an input may reserve beyond what the warm process has; more raises MemoryError."""

Answer = tuple[str, str, str]
"""Kind of the outcome, the error's text, and the place in MiMix that raised it."""


def read_frame(stream: IO[bytes]) -> object:
    """Read one pickled message of the other side. Raises EOFError at the end."""
    (length,) = struct.unpack("<Q", _read_exactly(stream, 8))
    return pickle.loads(_read_exactly(stream, length))


def _read_exactly(stream: IO[bytes], length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = stream.read(length - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def write_frame(stream: IO[bytes], message: object) -> None:
    """Write one pickled message."""
    data = pickle.dumps(message)
    message_bytes = memoryview(struct.pack("<Q", len(data)) + data)
    while message_bytes:
        message_bytes = message_bytes[stream.write(message_bytes) :]


def main() -> None:
    """Answer each message (name of the target, input) with what became of the input."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    with Path(sys.argv[1]).open("w") as stacks:
        faulthandler.register(signal.SIGUSR1, stacks, all_threads=True)
        warm: set[str] = set()
        while True:
            try:
                name, data = read_frame(requests)  # type: ignore[misc]
            except EOFError:
                return
            target = get_target(name)
            if name not in warm:
                run(target, target.seeds[0])
                warm.add(name)
            write_frame(answers, "ready")
            limit_memory()
            answer = run(target, data)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            write_frame(answers, answer)


def limit_memory() -> None:
    """Let a request for far too much memory fail instead of the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def run(target: Target, data: bytes) -> Answer:
    """Let a target read an input in an empty folder."""
    folder = Path(tempfile.mkdtemp(prefix="mimix-fuzz-"))
    try:
        target.act(data, folder)
    except (MimixError, Refused) as error:
        return "refused", str(error)[:500], ""
    except BaseException as error:
        kind = "memory" if isinstance(error, MemoryError) else "error"
        return kind, "".join(traceback.format_exception(error))[-6000:], place_of(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return "accepted", "", ""


def place_of(error: BaseException) -> str:
    """Return the type of an error and the innermost line of MiMix's own code that raised it."""
    own = "outside of MiMix"
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ("mimix_core", "flows"):
            own = f"{path.relative_to(ROOT)}:{frame.lineno} ({frame.name})"
    return f"{type(error).__name__} at {own}"


if __name__ == "__main__":
    main()
