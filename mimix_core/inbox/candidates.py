"""Find the files to ingest, and their sidecars, in files, globs and folders."""

from __future__ import annotations

import glob
import os
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mimix_core.domain.library import SIDECAR_EXTENSIONS


class IngestOutcome(StrEnum):
    """Result of ingesting a file."""

    ADDED = "added"
    DUPLICATE = "duplicate"
    INCOMPLETE = "incomplete"
    REJECTED = "rejected"


@dataclass(frozen=True)
class IngestResult:
    """A file and its outcome; ``target`` is its path in the library, if it is there."""

    path: Path
    outcome: IngestOutcome
    detail: str
    target: Path | None = None


def find_candidates(sources: Iterable[str | Path]) -> tuple[list[Path], list[IngestResult]]:
    """Return the files that may be videos, each once, and a rejection per source without a match.

    A folder means all files below it; text that is not an existing path is a glob. Hidden files and
    sidecars in folders are skipped; a file that is named explicitly never is.
    """
    found: dict[Path, Path] = {}
    unmatched = []
    for source in sources:
        path = Path(source).expanduser()
        if os.path.lexists(path):
            members = _below(path) if path.is_dir() else [path]
        else:
            # The pattern may be absolute, which ``Path.glob`` does not accept.
            names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
            matches = [Path(name) for name in names]
            members = [
                member
                for match in matches
                for member in (_below(match) if match.is_dir() else [match])
            ]
            if not matches:
                unmatched.append(IngestResult(path, IngestOutcome.REJECTED, "no such file"))
        for member in members:
            found.setdefault(member.absolute(), member)
    return list(found), unmatched


def _below(folder: Path) -> list[Path]:
    """Return the files below a folder without hidden files and sidecars; links are not followed."""
    return sorted(
        Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() not in SIDECAR_EXTENSIONS
    )


def find_sidecars(video: Path) -> list[tuple[Path, str]]:
    """Return the sidecars of a video, each with the part of its name after the video's stem.

    ``ep.srt``, ``ep.en.srt``, ``ep.yaml`` and ``ep.boxes.yaml`` belong to ``ep.mp4``.
    """
    try:
        siblings = sorted(video.parent.iterdir())
    except OSError:
        return []
    found = []
    for sibling in siblings:
        suffixes = sibling.name.removeprefix(video.stem)
        if (
            suffixes != sibling.name
            and suffixes.startswith(".")
            and suffixes.count(".") <= 2
            and sibling.suffix.lower() in SIDECAR_EXTENSIONS
            and sibling.is_file()
        ):
            found.append((sibling, suffixes))
    return found


def rejection_reason(path: Path) -> str:
    """Return why ``path`` cannot be ingested, without opening it; empty if it can be."""
    try:
        str(path.name).encode()
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not path.name.isprintable():
        return "its name contains control characters: rename it"
    if not stat.S_ISREG(mode):
        return "is not a regular file"
    if path.suffix.lower() in SIDECAR_EXTENSIONS:
        return "is a sidecar, not a video; it is added with the video of the same name"
    return ""


def find_incomplete(paths: Sequence[Path], settle_seconds: float) -> set[Path]:
    """Return the files that are still being written.

    These are files that a process has open for writing, and files younger than ``settle_seconds``
    that change within that time.
    """
    states = {path: _file_state(path) for path in paths}
    now = time.time_ns()
    fresh = [
        path
        for path, state in states.items()
        if state is None or now - state[1] < settle_seconds * 1e9
    ]
    if fresh:
        time.sleep(settle_seconds)
    written = _open_for_writing()
    return {
        path
        for path, state in states.items()
        if (path in fresh and _file_state(path) != state)
        or (state is not None and state[2:] in written)
    }


def _file_state(path: Path) -> tuple[int, int, int, int] | None:
    try:
        stats = path.stat()
    except OSError:
        return None
    return stats.st_size, stats.st_mtime_ns, stats.st_dev, stats.st_ino


def _open_for_writing() -> set[tuple[int, int]]:
    """Return device and inode of the files open for writing in inspectable processes (Linux)."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            handles = list((process / "fd").iterdir())
        except OSError:
            continue  # another user's process, or one that has just ended
        found |= {written for handle in handles if (written := _written_file(process, handle))}
    return found


def _written_file(process: Path, handle: Path) -> tuple[int, int] | None:
    try:
        info = (process / "fdinfo" / handle.name).read_text()
        state = handle.stat()  # of the open file, even if it was renamed
    except OSError:
        return None  # it was just closed
    flags = int(info.split("flags:")[1].split()[0], 8)
    return None if flags & os.O_ACCMODE == os.O_RDONLY else (state.st_dev, state.st_ino)
