"""The systems of a comparison: each a name and a folder with one video per prompt.

It does not matter which model generated the videos. A video's file name is the id of its prompt:
``<prompt id>.mp4``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimix_core.domain.prompts import VideoPrompt
from mimix_core.errors import BadInput

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")
"""Suffixes of video files, in lower or upper case."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")


@dataclass(frozen=True)
class System:
    """A source of videos, e.g. a model with its adapter."""

    name: str
    folder: Path


def parse_named_path(text: str, source: str) -> tuple[str, Path]:
    """Split ``name=path``. Raises BadInput that names ``source``, where the text comes from."""
    name, equals, path = text.partition("=")
    if not equals or not path or _NAME.fullmatch(name) is None or name != name.strip():
        raise BadInput(
            f"{text!r} is not NAME=PATH",
            where=source,
            fix="Write e.g. ours=path; a name consists of letters, digits, spaces and ._+-",
        )
    return name, Path(path)


def parse_system(text: str) -> System:
    """Parse ``name=folder``. Raises BadInput for another form or a missing folder."""
    name, folder = parse_named_path(text, "system")
    if not folder.is_dir():
        raise BadInput("no such folder", where=f"system {text}", fix="Check the path.")
    return System(name, folder)


def parse_systems(texts: Iterable[str]) -> tuple[System, ...]:
    """Parse all systems, in order. Raises BadInput for none, or for two with the same name."""
    systems = tuple(parse_system(text) for text in texts)
    if not systems:
        raise BadInput("no systems given", fix="Give at least one, as NAME=FOLDER.")
    # Folders are named after systems, and some file systems ignore case.
    counts = Counter(system.name.casefold() for system in systems)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise BadInput(
            f"two systems are named {repeated[0]!r}",
            where="systems",
            fix="Give each a different name (upper and lower case count as the same).",
        )
    return systems


def find_videos(system: System, prompts: Sequence[VideoPrompt]) -> dict[str, Path]:
    """Map prompt ids to video files, in the prompts' order; prompts without a video are left out.

    Raises BadInput when two files belong to one prompt, or none to any.
    """
    ids = {prompt.id for prompt in prompts}
    found: dict[str, list[Path]] = {}
    for path in _video_files(system):
        if path.stem in ids:
            found.setdefault(path.stem, []).append(path)
    for prompt_id, paths in found.items():
        if len(paths) > 1:
            raise BadInput(
                f"both {paths[0].name} and {paths[1].name} belong to the prompt {prompt_id}",
                where=str(system.folder),
                fix="Remove one of them.",
            )
    if not found:
        raise BadInput(
            f"no video of {system.name} has the name of a prompt",
            where=str(system.folder),
            fix=f"Name the files <prompt id>.mp4, e.g. {prompts[0].id}.mp4.",
        )
    return {prompt.id: found[prompt.id][0] for prompt in prompts if prompt.id in found}


def unmatched_videos(system: System, prompts: Sequence[VideoPrompt]) -> tuple[str, ...]:
    """List the folder's video files that belong to no prompt, sorted."""
    ids = {prompt.id for prompt in prompts}
    return tuple(path.name for path in _video_files(system) if path.stem not in ids)


def missing_prompts(system: System, prompts: Sequence[VideoPrompt]) -> tuple[str, ...]:
    """List the ids of the prompts that the system has no video of, in the prompts' order."""
    found = find_videos(system, prompts)
    return tuple(prompt.id for prompt in prompts if prompt.id not in found)


def _video_files(system: System) -> list[Path]:
    return [
        path
        for path in sorted(system.folder.iterdir())
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    ]
