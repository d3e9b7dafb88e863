"""What comes in: files, globs and folders taken apart into candidates, each with its sidecars."""

from __future__ import annotations

import glob
import os
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mimix_core.domain.library import BESIDE_VIDEOS


class Outcome(StrEnum):
    """What became of a file that came in."""

    TAKEN = "taken"
    KNOWN = "known"
    BUSY = "busy"
    REFUSED = "refused"


@dataclass(frozen=True)
class Arrival:
    """One file that came in. ``target``: where its content lies in the library, if it does."""

    path: Path
    outcome: Outcome
    detail: str
    target: Path | None = None


def candidates(sources: Iterable[str | Path]) -> tuple[list[Path], list[Arrival]]:
    """The files that may be videos, each once, and what of ``sources`` was nothing.

    A folder stands for all files below it, a text that is no path for the glob it is. Hidden files
    and sidecars in folders are passed over; a file named by itself never is.
    """
    found: dict[Path, Path] = {}
    nothing = []
    for source in sources:
        path = Path(source).expanduser()
        if os.path.lexists(path):
            members = _below(path) if path.is_dir() else [path]
        else:
            # The person's pattern may be absolute, which ``Path.glob`` does not take.
            names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
            matches = [Path(name) for name in names]
            members = [
                member
                for match in matches
                for member in (_below(match) if match.is_dir() else [match])
            ]
            if not matches:
                nothing.append(Arrival(path, Outcome.REFUSED, "there is no such file"))
        for member in members:
            found.setdefault(member.absolute(), member)
    return list(found), nothing


def _below(folder: Path) -> list[Path]:
    """All files below a folder, neither hidden nor sidecars; links to folders are not followed."""
    return sorted(
        Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() not in BESIDE_VIDEOS
    )


def sidecars(video: Path) -> list[tuple[Path, str]]:
    """Files that belong to a video by their names, and what follows the stem of theirs.

    ``ep.srt``, ``ep.en.srt``, ``ep.yaml`` and ``ep.boxes.yaml`` belong to ``ep.mp4``.
    """
    try:
        neighbours = sorted(video.parent.iterdir())
    except OSError:
        return []
    found = []
    for beside in neighbours:
        rest = beside.name.removeprefix(video.stem)
        if (
            rest != beside.name
            and rest.startswith(".")
            and rest.count(".") <= 2
            and beside.suffix.lower() in BESIDE_VIDEOS
            and beside.is_file()
        ):
            found.append((beside, rest))
    return found


def unfit(path: Path) -> str:
    """Why ``path`` cannot be taken, found without opening it; empty when it may be."""
    try:
        str(path.name).encode()
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not path.name.isprintable():
        return "its name holds control characters: rename it"
    if not stat.S_ISREG(mode):
        return "is not a regular file"
    if path.suffix.lower() in BESIDE_VIDEOS:
        return "is no video; it comes along with the video of its name"
    return ""


def busy(paths: Sequence[Path], settle_seconds: float) -> set[Path]:
    """Those that are still being written.

    A file is left in peace while somebody has it open for writing, and while it is not older than
    ``settle_seconds`` and changes when looked at again after so long.
    """
    before = {path: _state(path) for path in paths}
    now = time.time_ns()
    fresh = [
        path
        for path, state in before.items()
        if state is None or now - state[1] < settle_seconds * 1e9
    ]
    if fresh:
        time.sleep(settle_seconds)
    written = _open_for_writing()
    return {
        path
        for path, state in before.items()
        if (path in fresh and _state(path) != state) or (state is not None and state[2:] in written)
    }


def _state(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino


def _open_for_writing() -> set[tuple[int, int]]:
    """Device and inode of each file that a process open to us writes to (Linux; else none)."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            handles = list((process / "fd").iterdir())
        except OSError:
            continue  # another person's process, or one that ended a moment ago
        found |= {written for handle in handles if (written := _written(process, handle))}
    return found


def _written(process: Path, handle: Path) -> tuple[int, int] | None:
    try:
        said = (process / "fdinfo" / handle.name).read_text()
        state = handle.stat()  # of the open file, whatever its name is now
    except OSError:
        return None  # closed a moment ago
    flags = int(said.split("flags:")[1].split()[0], 8)
    return None if flags & os.O_ACCMODE == os.O_RDONLY else (state.st_dev, state.st_ino)
