"""References to content: what passes between stages instead of the content itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of all typed values: unknown keys and infinities are errors, nothing changes later."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileRef(Frozen):
    """A file, or a folder taken as one thing, with the digest of its content.

    The path says where it lies today and is no part of its identity.
    """

    path: Path
    sha256: str
    size: int


class Counts(Frozen):
    """Rows of one table by status. ``rows_in`` is what entered the stage."""

    rows_in: int
    ok: int
    rejected: int
    failed: int


class TableRef(Frozen):
    """A committed table of one stage and unit; small enough to be an orchestrator's result."""

    stage: str
    unit: str
    key: str
    sha256: str
    path: Path
    counts: Counts

    @property
    def folder(self) -> Path:
        """The folder of the table: its ``file`` columns are relative to it."""
        return self.path.parent


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_ref(path: Path, digest: Callable[[Path], str] = digest_file) -> FileRef:
    """Reference to a file, or to a folder and all below it (names and bytes; links followed).

    ``digest`` gives the sha256 of a single file.
    """
    path = path.resolve()
    if not path.is_dir():
        return FileRef(path=path, sha256=digest(path), size=path.stat().st_size)
    total = hashlib.sha256()
    size = 0
    for member in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(f"{member.relative_to(path).as_posix()}\0{digest(member)}\n".encode())
        size += member.stat().st_size
    return FileRef(path=path, sha256=total.hexdigest(), size=size)
