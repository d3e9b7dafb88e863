"""Emit the event ``mimix.episode.arrived``: a complete file is in the inbox."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event

from mimix_core.engine.text_escaping import printable_text
from mimix_core.inbox import PendingFile

EPISODE_ARRIVED = "mimix.episode.arrived"

INBOX_LABEL = "mimix.inbox"
"""Label of the event's resource by which the deployments of a library recognize their inbox."""


def inbox_digest(inbox: Path | None) -> str:
    """Return the value of INBOX_LABEL for an inbox folder: a part of the digest of its path."""
    return hashlib.sha256(os.fsencode(inbox or "")).hexdigest()[:16]


def emit_episode_arrived(files: Sequence[PendingFile], inbox: Path | None) -> bool:
    """Send one event per file of this inbox; return False if the server did not accept them.

    Uses a direct request instead of ``emit_event``, which does not report lost events.
    """
    events = [
        Event(
            event=EPISODE_ARRIVED,
            resource={
                "prefect.resource.id": f"mimix.episode.{file.sha256[:16]}",
                "prefect.resource.name": printable_text(file.path.name),
                INBOX_LABEL: inbox_digest(inbox),
            },
            payload={
                "show": file.show,
                "path": printable_text(str(file.path)),
                "sha256": file.sha256,
                "size": file.size,
            },
        ).model_dump(mode="json")
        for file in files
    ]
    try:
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=events).raise_for_status()
    except httpx.HTTPError:
        return False
    return True
