"""Find the files to ingest, and their sidecars, in files, globs and folders."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mimix_core.domain.sidecar_index import SIDECAR_EXTENSIONS


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


def folders_between(path: Path, sources: Sequence[str | Path]) -> tuple[str, ...]:
    """Return the names of the folders between a source folder and a file found below it.

    Empty for a file that is itself a source.
    """
    for source in sources:
        folder = Path(source).expanduser().absolute()
        if folder.is_dir() and path.absolute().is_relative_to(folder):
            return path.absolute().relative_to(folder).parts[:-1]
    return ()


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
    return list_sidecars([video])[video]


def list_sidecars(videos: Iterable[Path]) -> dict[Path, list[tuple[Path, str]]]:
    """Return the sidecars of several videos as ``find_sidecars`` does; lists each folder once."""
    folders: dict[Path, dict[str, list[Path]]] = {}
    found = {}
    for video in videos:
        if video.parent not in folders:
            folders[video.parent] = _sidecars_by_stem(video.parent)
        found[video] = [
            (sidecar, sidecar.name.removeprefix(video.stem))
            for sidecar in folders[video.parent].get(video.stem, [])
            if sidecar.is_file()
        ]
    return found


def _sidecars_by_stem(folder: Path) -> dict[str, list[Path]]:
    """List the sidecars of a folder by their names without the last one or two parts."""
    by_stem: dict[str, list[Path]] = {}
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return by_stem
    for entry in entries:
        if entry.suffix.lower() in SIDECAR_EXTENSIONS:
            stem = entry.name.rpartition(".")[0]
            for name in {stem, stem.rpartition(".")[0]} - {""}:
                by_stem.setdefault(name, []).append(entry)
    return by_stem


def sidecar_problem(video: Path) -> str:
    """Return which sidecar of a video must not be taken over; empty if all can be.

    A link to a file of another kind would bring that file's content, such as a private key, into
    the library.
    """
    for sidecar, _ in find_sidecars(video):
        target = Path(os.path.realpath(sidecar))
        if target.suffix.lower() != sidecar.suffix.lower():
            return f"{sidecar.name} is a link to {target.name}: replace it by the file itself"
    return ""


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
