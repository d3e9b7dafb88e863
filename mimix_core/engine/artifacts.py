"""Define references to files and tables, which stages exchange instead of the content itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """Base of all typed values: immutable; unknown keys, NaN and infinities are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileRef(FrozenModel):
    """Reference a file, or a folder as a unit, by the digest of its content.

    The path is its current location and not part of its identity.
    """

    path: Path
    sha256: str
    size: int


class Counts(FrozenModel):
    """Count the rows of one table by status; ``rows_in`` counts the stage's input items."""

    rows_in: int
    ok: int
    rejected: int
    failed: int


class TableRef(FrozenModel):
    """Reference the committed table of one stage and unit; small enough for a Prefect result.

    ``sha256``: of the table's file, which names the stage key. ``content``: of its rows and the
    files they name, without the key; equal for equal results, however they were computed. Empty:
    the table was written before there was such a digest.
    """

    stage: str
    unit: str
    key: str
    sha256: str
    path: Path
    counts: Counts
    content: str = ""

    @property
    def folder(self) -> Path:
        """Return the table's folder, to which its ``file`` columns are relative."""
        return self.path.parent


def digest_file(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_ref(path: Path, digest: Callable[[Path], str] = digest_file) -> FileRef:
    """Create the reference of a file, or of a folder with everything below it.

    A folder's digest covers relative names and bytes; links are followed. ``digest`` computes the
    SHA-256 of a single file.
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
