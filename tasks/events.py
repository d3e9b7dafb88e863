"""The event ``mimix.episode.arrived``: a whole file waits in the inbox."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event

from mimix_core.inbox import Waiting

EPISODE_ARRIVED = "mimix.episode.arrived"


def emit_episode_arrived(files: Sequence[Waiting]) -> bool:
    """Tell the Prefect server. False: it did not answer, so nobody has heard of them.

    Sent by a request of its own and not by ``emit_event``, which says nothing of what was lost.
    """
    events = [
        Event(
            event=EPISODE_ARRIVED,
            resource={
                "prefect.resource.id": f"mimix.episode.{one.sha256[:16]}",
                "prefect.resource.name": one.path.name,
            },
            payload={
                "show": one.show,
                "path": str(one.path),
                "sha256": one.sha256,
                "size": one.size,
            },
        ).model_dump(mode="json")
        for one in files
    ]
    try:
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=events).raise_for_status()
    except httpx.HTTPError:
        return False
    return True
