"""Record the system calls by which a program changes files.

``record_calls`` runs it under strace; ``Call.arguments`` are those of the kernel's function, with
strings decoded. What is not recorded must not happen: see ``disk.Disk``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TRACED = (
    "openat,open,creat,close,dup,dup2,dup3,lseek,read,write,writev,pwrite64,pwritev,ftruncate,"
    "truncate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,"
    "unlinkat,mkdir,mkdirat,rmdir,fallocate,copy_file_range,sendfile,mmap,chdir,fchdir,ioctl,"
    "clone,clone3,fork,vfork"
)
_LINE = re.compile(r"^(\d+) +(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+|\?)(?:$|\s|<)", re.DOTALL)
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_UNFINISHED = "<unfinished ...>"
_HEX = re.compile(rb"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class Call:
    """A system call that succeeded."""

    name: str
    arguments: tuple[str | bytes, ...]
    result: int

    def number(self, position: int) -> int:
        """Return an argument that is a number, such as a file descriptor or an offset."""
        value = self.arguments[position]
        assert isinstance(value, str), value
        return -100 if value == "AT_FDCWD" else int(value, 0)

    def text(self, position: int) -> str:
        """Return an argument that is a path."""
        value = self.arguments[position]
        assert isinstance(value, bytes), value
        return value.decode(errors="surrogateescape")

    def flags(self, position: int) -> frozenset[str]:
        """Return an argument that is a set of flags."""
        value = self.arguments[position]
        assert isinstance(value, str), value
        return frozenset(value.split("|"))


def record_calls(arguments: Sequence[str], trace: Path) -> list[Call]:
    """Run Python with ``arguments`` under strace and return its calls in the order of their ends.

    Threads of the program belong to it; other processes that it starts are left out.
    """
    strace = ["strace", "-f", "-q", "-xx", "-s", "100000000", "-o", str(trace), "-e"]
    command = [*strace, f"trace={TRACED}", sys.executable, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return list(_parse(trace.read_text().splitlines()))


def _parse(lines: Sequence[str]) -> Iterator[Call]:
    own: set[str] = set()
    begun: dict[str, str] = {}
    for line in lines:
        match = _LINE.match(line)
        assert match, line[:200]
        thread, text = match.groups()
        own = own or {thread}
        if thread not in own or text.startswith(("+++", "---")):
            continue
        if text.endswith(_UNFINISHED):
            begun[thread] = text.removesuffix(_UNFINISHED)
            continue
        if resumed := _RESUMED.match(text):
            text = begun.pop(thread) + resumed.group(2)
        call = _parse_call(text)
        if call is None:
            continue
        if call.name in ("clone", "clone3", "fork", "vfork"):
            if "CLONE_FILES" in text:
                own.add(str(call.result))
            continue
        yield call


def _parse_call(text: str) -> Call | None:
    match = _CALL.match(text)
    if match is None:
        return None
    name, arguments, result = match.groups()
    if result == "?" or int(result) < 0:
        return None
    return Call(name, tuple(_split(arguments)), int(result))


def _split(text: str) -> Iterator[str | bytes]:
    """Split arguments at the commas outside of brackets; decode strings."""
    depth, start, quoted = 0, 0, False
    for position, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif character in "[{(":
            depth += 1
        elif character in "]})":
            depth -= 1
        elif character == "," and depth == 0:
            yield _decode(text[start:position].strip())
            start = position + 1
    if text[start:].strip():
        yield _decode(text[start:].strip())


def _decode(text: str) -> str | bytes:
    if not text.startswith('"'):
        return text
    assert text.endswith('"'), f"strace cut a string off: {text[-40:]}"
    return _HEX.sub(lambda m: bytes([int(m.group(1), 16)]), text[1:-1].encode())


def vector(argument: str) -> bytes:
    """Return the bytes of an argument of ``writev``."""
    strings = re.findall(r'iov_base="((?:\\x[0-9a-f]{2})*)"', argument)
    return b"".join(_HEX.sub(lambda m: bytes([int(m.group(1), 16)]), s.encode()) for s in strings)
