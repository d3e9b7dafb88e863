"""Write a folder for another program: complete or not at all, and resumable.

The folder appears when it is complete: until then its files are in ``.FOLDER.part`` beside it,
where an interrupted export goes on.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from mimix_core.engine import progress
from mimix_core.engine.artifacts import digest_file
from mimix_core.engine.atomic_io import atomic_write_bytes, fsync_path
from mimix_core.engine.locks import try_exclusive_lock
from mimix_core.errors import BadInput, StageFailed

EXPORT_RECORD = ".mimix-export.json"
"""Says what a complete folder holds, so that the same export need not be made again."""

# Free space beyond the files' own, for metadata and the file system.
_SPARE_BYTES = 100_000_000
_LOCK_FILE = ".lock"
_UNFINISHED = ".unfinished"


class FileTransfer(StrEnum):
    """How files get from the store into an exported folder."""

    COPY = "copy"
    LINK = "link"


@dataclass(frozen=True)
class ExportedFile:
    """A file of the store with the digest that it must have."""

    path: Path
    sha256: str


def export_folder(
    folder: Path,
    export_format: str,
    files: Mapping[str, ExportedFile],
    texts: Mapping[str, str],
    transfer: FileTransfer = FileTransfer.COPY,
) -> int:
    """Write files and texts by their relative path to ``folder``: a new, or an empty one.

    Returns the size of the files in bytes. Each file is compared with its digest. A folder that
    holds just this export already is left as it is. Raises BadInput when the folder holds anything
    else, another process exports to it, the disk is too small or hard links are not possible;
    StageFailed for a file that is missing from the store or has changed.
    """
    folder = folder.absolute()
    _check_names([*files, *texts])
    size = _total_size(files.values())
    digests = {name: file.sha256 for name, file in files.items()}
    content = json.dumps([digests, texts], sort_keys=True).encode()
    record = json.dumps({"format": export_format, "content": hashlib.sha256(content).hexdigest()})
    if _holds_export(folder, record):
        return size
    part = folder.with_name(f".{folder.name}.part")
    if part.is_symlink():
        # Whoever may write to the parent folder could have files of another folder removed.
        raise BadInput("is a link", where=str(part), fix="Remove it, and export again.")
    part.mkdir(parents=True, exist_ok=True)
    lock = try_exclusive_lock(part / _LOCK_FILE)
    if lock is None:
        raise BadInput("another export writes to it", where=str(folder), fix="Wait for its end.")
    with lock:
        missing = {
            name: file
            for name, file in files.items()
            if not (part / name).is_file() or digest_file(part / name) != file.sha256
        }
        if transfer is FileTransfer.COPY:
            _check_space(missing.values(), folder)
        _remove_others(part, {*files, *texts, _LOCK_FILE})
        for done, (name, file) in enumerate(missing.items(), 1):
            _transfer_file(file, part / name, transfer)
            progress.report_progress(len(files) - len(missing) + done, len(files), name)
        for name, text in texts.items():
            atomic_write_bytes(part / name, text.encode(), durable=False)
        atomic_write_bytes(part / EXPORT_RECORD, record.encode())
        _flush(part, texts)
        part.rename(folder)
        (folder / _LOCK_FILE).unlink()
        fsync_path(folder.parent)
    return size


def check_export_folder(folder: Path) -> None:
    """Raise BadInput for a path that is not a folder's, or of a folder that no export made.

    It needs nothing of the export itself: call it before any work.
    """
    if not folder.is_dir():
        if os.path.lexists(folder):
            raise BadInput("is not a folder", where=str(folder), fix="Give the path of a folder.")
    elif not (folder / EXPORT_RECORD).is_file():
        if any(folder.iterdir()):
            raise _refuse_folder(folder, "other files")
        check_not_mounted(folder)


def check_not_mounted(folder: Path) -> None:
    """Raise BadInput for the root of a disk or volume: a finished folder cannot take its place."""
    if folder.is_mount():
        raise BadInput(
            "is where a disk or volume is mounted",
            where=str(folder),
            fix=f"Give a folder in it, e.g. {folder / 'export'}.",
        )


def _check_names(names: Iterable[str]) -> None:
    """Raise BadInput for a relative path that would lead out of the exported folder."""
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise BadInput(
                f"{name!r} leads out of the exported folder",
                where="the exported table",
                fix="Export tables that MiMix wrote.",
            )


def _holds_export(folder: Path, record: str) -> bool:
    """Return whether the folder holds this export. Raises BadInput if it holds anything else."""
    check_export_folder(folder)
    found = folder / EXPORT_RECORD
    if not found.is_file():
        return False
    if found.read_text(encoding="utf-8") != record:
        raise _refuse_folder(folder, "another export")
    return True


def _refuse_folder(folder: Path, held: str) -> BadInput:
    return BadInput(
        f"already exists and holds {held}",
        where=str(folder),
        fix="Give the path of a new or empty folder.",
    )


def _total_size(files: Collection[ExportedFile]) -> int:
    """Return the size of the files in bytes. Raises StageFailed if one is missing."""
    size = 0
    for file in files:
        try:
            size += file.path.stat().st_size
        except OSError as error:
            raise _changed(file.path, "is missing") from error
    return size


def _check_space(files: Collection[ExportedFile], folder: Path) -> None:
    """Raise BadInput when the files do not fit on the disk."""
    size = _total_size(files)
    free = shutil.disk_usage(folder.parent).free
    if free < size + _SPARE_BYTES:
        raise BadInput(
            f"{len(files)} files of {size / 1e9:.1f} GB do not fit: {free / 1e9:.1f} GB are free",
            where=str(folder.parent),
            fix="Choose a folder on a larger disk, export less, or use --videos link on the "
            "store's own disk.",
        )


def _remove_others(part: Path, names: set[str]) -> None:
    """Remove files of an interrupted export that this one does not have."""
    for path in part.rglob("*"):
        if not path.is_dir() and path.relative_to(part).as_posix() not in names:
            path.unlink()
    for path in sorted((p for p in part.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def _transfer_file(file: ExportedFile, target: Path, transfer: FileTransfer) -> None:
    """Copy or link a file; its name appears when its bytes are complete and verified."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + _UNFINISHED)
    if transfer is FileTransfer.LINK:
        _link(file.path, unfinished)
    else:
        shutil.copyfile(file.path, unfinished)
        fsync_path(unfinished)
    if digest_file(unfinished) != file.sha256:
        unfinished.unlink()
        raise _changed(file.path, "has changed since it was made")
    unfinished.replace(target)


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        raise BadInput(
            f"hard links to the store are not possible here ({os.strerror(error.errno)})",
            where=str(target.parent),
            fix="Export to the disk of the workspace, or use --videos copy.",
        ) from error


def _flush(part: Path, texts: Collection[str]) -> None:
    """Flush the text files and all folders to disk; the files are there already."""
    for name in texts:
        fsync_path(part / name)
    for path in (part, *(path for path in part.rglob("*") if path.is_dir())):
        fsync_path(path)


def _changed(file: Path, what: str) -> StageFailed:
    return StageFailed(f"{file} {what}. Run `mimix augment` again, then export")
