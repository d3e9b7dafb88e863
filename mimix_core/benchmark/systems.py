"""Systems that are compared: a name, and a folder with one video per prompt.

Nothing here asks who made the videos; a folder of another model's videos is as good as ours. A
video belongs to the prompt whose id its file is named by: ``<prompt id>.mp4``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimix_core.domain.prompts import Prompt
from mimix_core.errors import BadInput

SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")
"""Files that count as videos, in any case."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")


@dataclass(frozen=True)
class System:
    """One way of making the videos, e.g. a model with its adapter."""

    name: str
    folder: Path


def named(text: str, option: str) -> tuple[str, Path]:
    """``name=path`` as its two halves. Raises BadInput, naming ``option``, for anything else."""
    name, equals, path = text.partition("=")
    if not equals or not path or _NAME.fullmatch(name) is None or name != name.strip():
        raise BadInput(
            f"{text!r} is not NAME=PATH",
            where=option,
            fix=f"Write e.g. {option} ours=path; a name has letters, digits, spaces and ._+-",
        )
    return name, Path(path)


def parse(text: str) -> System:
    """``name=folder`` as a system. Raises BadInput when it is not that or there is no folder."""
    name, folder = named(text, "--system")
    if not folder.is_dir():
        raise BadInput("no such folder", where=f"--system {text}", fix="Check the path.")
    return System(name, folder)


def parse_all(texts: Iterable[str]) -> tuple[System, ...]:
    """Each system, in the order given. Raises BadInput for none, or for two of one name."""
    systems = tuple(parse(text) for text in texts)
    if not systems:
        raise BadInput("no system is given", fix="Write --system NAME=FOLDER, once for each.")
    # Names of folders are made of them, and some file systems do not tell A from a.
    counted = Counter(system.name.casefold() for system in systems)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise BadInput(
            f"two systems are named {twice[0]!r}", where="--system", fix="Give each its own name."
        )
    return systems


def videos(system: System, prompts: Sequence[Prompt]) -> dict[str, Path]:
    """Prompt id -> its video, in the prompts' order; what ``missing`` names is not in it.

    Raises BadInput when two files are named by one prompt, or no file by any.
    """
    ids = {prompt.id for prompt in prompts}
    found: dict[str, list[Path]] = {}
    for path in sorted(system.folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.stem in ids and path.is_file():
            found.setdefault(path.stem, []).append(path)
    for prompt_id, paths in found.items():
        if len(paths) > 1:
            raise BadInput(
                f"both {paths[0].name} and {paths[1].name} are named by the prompt {prompt_id}",
                where=str(system.folder),
                fix="Leave one of them.",
            )
    if not found:
        raise BadInput(
            f"no video of {system.name} is named by a prompt",
            where=str(system.folder),
            fix=f"Name them <prompt id>.mp4, e.g. {prompts[0].id}.mp4.",
        )
    return {prompt.id: found[prompt.id][0] for prompt in prompts if prompt.id in found}


def strays(system: System, prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """The names of the folder's videos that no prompt names, sorted."""
    ids = {prompt.id for prompt in prompts}
    return tuple(
        path.name
        for path in sorted(system.folder.iterdir())
        if path.suffix.lower() in SUFFIXES and path.stem not in ids and path.is_file()
    )


def missing(system: System, prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """The ids of the prompts that the system has no video of, in the prompts' order."""
    found = videos(system, prompts)
    return tuple(prompt.id for prompt in prompts if prompt.id not in found)
