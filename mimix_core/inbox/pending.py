"""The folder where new episodes are put: what waits in it, and how it is emptied.

``<inbox>/<show id>/...`` holds files of any depth. A file that is still being copied is no arrival
yet; one that the library has already is none any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mimix_core.domain.library import stated
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.inbox.atomic_copy import How
from mimix_core.inbox.candidates import Arrival, Outcome, busy, candidates, unfit
from mimix_core.inbox.ingest import SETTLE_SECONDS, ingest, known_videos
from mimix_core.settings import Config


@dataclass(frozen=True)
class Waiting:
    """A whole file in the inbox that no episode of the library is equal to."""

    show: str
    path: Path
    sha256: str
    size: int


def folders(config: Config) -> tuple[list[tuple[str, Path]], list[Arrival]]:
    """Each show with its folder in the inbox, and what lies in the inbox and is no show's folder.

    Raises BadInput when the settings name no inbox, or one that is not there.
    """
    if config.inbox is None:
        raise BadInput(
            "no inbox is set",
            where="settings, key inbox",
            fix="Write the folder where new episodes are put, with one folder per show in it.",
        )
    if not config.inbox.is_dir():
        raise BadInput(
            f"no folder {config.inbox}", where="settings, key inbox", fix="Make it, or correct it."
        )
    shows = [show.id for show in stated(config.library).shows]
    found, strange = [], []
    for entry in sorted(config.inbox.iterdir()):
        if entry.name in shows and entry.is_dir():
            found.append((entry.name, entry))
        elif not entry.name.startswith("."):
            detail = f"is in no show's folder. Shows: {', '.join(shows)}"
            strange.append(Arrival(entry, Outcome.REFUSED, detail))
    return found, strange


def waiting(config: Config, *, settle_seconds: float = SETTLE_SECONDS) -> list[Waiting]:
    """What could be taken in now, sorted by path. Nothing is moved or decoded. Raises BadInput."""
    shows, _ = folders(config)
    members = [
        (show, path)
        for show, folder in shows
        for path in candidates([folder])[0]
        if not unfit(path)
    ]
    if not members:
        return []
    unsettled = busy([path for _, path in members], settle_seconds)
    store = Store(config.workspace / "store")
    known = known_videos(stated(config.library), config.library.resolve().parent, store)
    found: dict[str, Waiting] = {}
    for show, path in members:
        if path in unsettled:
            continue
        try:
            file = store.source(path)
        except OSError:
            continue  # taken in a moment ago, or not readable: whoever takes it in says so
        if file.sha256 not in known:
            found.setdefault(file.sha256, Waiting(show, path, file.sha256, file.size))
    return list(found.values())


def take_in(
    config: Config,
    *,
    settle_seconds: float = SETTLE_SECONDS,
    hear: Callable[[Arrival], None] = lambda arrival: None,
) -> list[Arrival]:
    """Move what is whole in the inbox into the shows' folders; what cannot come in stays there.

    Gives what became of each file. Raises BadInput as ``folders`` and ``ingest`` do.
    """
    shows, arrivals = folders(config)
    for arrival in arrivals:
        hear(arrival)
    for show, folder in shows:
        if candidates([folder])[0]:
            arrivals += ingest(
                config, show, [folder], how=How.MOVE, settle_seconds=settle_seconds, hear=hear
            )
    return arrivals
