"""Write a file or folder that a command was asked for: a new one, complete or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from mimix_core.engine.atomic_io import fsync_path, make_folder
from mimix_core.errors import BadInput, DiskFull, is_disk_full

Result = TypeVar("Result")


def check_new_file(to: Path, suffix: str) -> None:
    """Raise BadInput unless a file with this suffix can be created at the path."""
    if to.exists() or to.is_symlink():
        raise BadInput("already exists", where=str(to), fix="Give the path of a new file.")
    if to.suffix != suffix or not to.parent.is_dir():
        raise BadInput(
            f"is not a path for a {suffix} file",
            where=str(to),
            fix=f"Give the path of a new {suffix} file in an existing folder.",
        )


def write_new_file(to: Path, write: Callable[[Path], None]) -> None:
    """Have ``write`` create a file that appears when it is complete, and replaces no other.

    Raises BadInput for a file that has appeared meanwhile, and DiskFull.
    """
    with _part(to) as part:
        write(part)
        check_new_file(to, to.suffix)
        part.rename(to)


def write_new_folder(folder: Path, write: Callable[[Path], Result]) -> Result:
    """Have ``write`` create a folder that appears when it is complete; return what it returns.

    ``folder``: absolute; it is missing or empty. Raises DiskFull.
    """
    make_folder(folder.parent)
    with _part(folder) as part:
        result = write(part)
        part.rename(folder)
    return result


@contextmanager
def _part(to: Path) -> Iterator[Path]:
    """Yield a path beside ``to`` to write to and rename; nothing of it remains. Raises DiskFull."""
    try:
        with TemporaryDirectory(prefix=".mimix-", dir=to.parent) as folder:
            yield Path(folder) / to.name
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(error, str(to)) from error
        raise
    fsync_path(to.parent)
