"""Look for files, and read texts, that people and other programs name and write."""

from __future__ import annotations

from pathlib import Path

from mimix_core.errors import BadInput


def file_exists(path: Path) -> bool:
    """Return whether a path names a file; none has a name that is too long or contains a NUL."""
    try:
        return path.is_file()
    except OSError:
        return False


def folder_exists(path: Path) -> bool:
    """Return whether a path names a folder; none has a name that is too long or contains a NUL."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read_utf8_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark; line ends stay as they are.

    Raises BadInput for a file in another encoding, and for one that cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"is not UTF-8 ({error.reason} at byte {error.start})",
            where=str(path),
            fix="Save it as UTF-8.",
        ) from error
    except OSError as error:
        raise BadInput(f"cannot be read ({error.strerror})", where=str(path)) from error
