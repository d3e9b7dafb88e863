"""Find and ingest the pending files of the inbox folder.

``<inbox>/<show id>/...`` contains files at any depth. A file is pending when it is complete and the
library does not contain it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mimix_core.domain.library import parse_library
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.inbox.atomic_copy import TransferMode
from mimix_core.inbox.candidates import (
    IngestOutcome,
    IngestResult,
    find_candidates,
    list_sidecars,
    rejection_reason,
)
from mimix_core.inbox.ingest import index_library_videos, ingest
from mimix_core.inbox.unfinished_files import find_unfinished
from mimix_core.settings import Config


@dataclass(frozen=True)
class PendingFile:
    """A complete file in the inbox whose content no episode of the library has."""

    show: str
    path: Path
    sha256: str
    size: int


def list_show_folders(config: Config) -> tuple[list[tuple[str, Path]], list[IngestResult]]:
    """Return each show's folder in the inbox, and a rejection per entry outside of these folders.

    Raises BadInput when the settings have no inbox, or it does not exist.
    """
    if config.inbox is None:
        raise BadInput(
            "no inbox is set",
            where="settings, key inbox",
            fix="Set it to the folder for new episodes, which has a subfolder per show.",
        )
    if not config.inbox.is_dir():
        raise BadInput(
            f"no folder {config.inbox}",
            where="settings, key inbox",
            fix="Create it, or correct it.",
        )
    shows = [show.id for show in parse_library(config.library).shows]
    folders, rejected = [], []
    for entry in sorted(config.inbox.iterdir()):
        if entry.name in shows and entry.is_dir():
            folders.append((entry.name, entry))
        elif not entry.name.startswith("."):
            detail = f"is not in the folder of a show. Shows: {', '.join(shows)}"
            rejected.append(IngestResult(entry, IngestOutcome.REJECTED, detail))
    return folders, rejected


def find_pending(config: Config, *, settle_seconds: float | None = None) -> list[PendingFile]:
    """Return the files that can be ingested now, by path, without moving or decoding any.

    Raises BadInput as ``list_show_folders`` does.
    """
    shows, _ = list_show_folders(config)
    members = [
        (show, path)
        for show, folder in shows
        for path in find_candidates([folder])[0]
        if not rejection_reason(path)
    ]
    if not members:
        return []
    unfinished = find_unfinished(
        [path for _, path in members],
        config.inbox_settle_seconds if settle_seconds is None else settle_seconds,
        list_sidecars(path for _, path in members),
    )
    store = Store(config.workspace / "store")
    videos = index_library_videos(
        parse_library(config.library), config.library.resolve().parent, store
    )
    pending: dict[str, PendingFile] = {}
    for show, path in members:
        if path in unfinished:
            continue
        try:
            file = store.source_ref(path)
        except OSError:
            continue  # just ingested, or not readable, which ``ingest_pending`` reports
        if file.sha256 not in videos:
            pending.setdefault(file.sha256, PendingFile(show, path, file.sha256, file.size))
    return list(pending.values())


def ingest_pending(
    config: Config,
    *,
    settle_seconds: float | None = None,
    on_result: Callable[[IngestResult], None] = lambda result: None,
) -> list[IngestResult]:
    """Move the complete files of the inbox into the shows' folders; rejected files stay there.

    Returns the result of each file. Raises BadInput as ``list_show_folders`` and ``ingest`` do.
    """
    shows, results = list_show_folders(config)
    for result in results:
        on_result(result)
    for show, folder in shows:
        if find_candidates([folder])[0]:
            results += ingest(
                config,
                show,
                [folder],
                mode=TransferMode.MOVE,
                settle_seconds=settle_seconds,
                on_result=on_result,
            )
    return results
