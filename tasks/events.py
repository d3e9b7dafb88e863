"""Emit the event ``mimix.episode.arrived``: a complete file is in the inbox."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event

from mimix_core.inbox import PendingFile

EPISODE_ARRIVED = "mimix.episode.arrived"


def emit_episode_arrived(files: Sequence[PendingFile]) -> bool:
    """Send one event per file to the Prefect server; return False if it did not accept them.

    Uses a direct request instead of ``emit_event``, which does not report lost events.
    """
    events = [
        Event(
            event=EPISODE_ARRIVED,
            resource={
                "prefect.resource.id": f"mimix.episode.{file.sha256[:16]}",
                "prefect.resource.name": file.path.name,
            },
            payload={
                "show": file.show,
                "path": str(file.path),
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
