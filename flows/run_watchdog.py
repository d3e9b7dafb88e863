"""Watch a deployed run from within: cancelled runs end, live runs are not taken for dead.

Prefect's worker passes a cancellation on, but gives up observing after an outage of the server, and
a worker that was killed passes nothing on. During an outage no heartbeat arrives, so that the
server takes live runs for dead (deployments/automations.yaml).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.logging import get_logger
from prefect.states import Cancelled, Running

from mimix_core.engine.store import Store
from tasks.server_connection import few_retries
from tasks.subprocess_runner import terminate_all_units

POLL_SECONDS = 5.0
"""Interval of looks at the run's state, each a request to the server."""

CANCEL_POLL_SECONDS = 1.0
"""The same interval once the run is to be cancelled."""

CANCEL_GRACE_SECONDS = 8.0
"""Time that Prefect's worker has to end a cancelled run before the run ends itself."""

logger = get_logger("mimix")


@contextmanager
def watched_run(store: Store) -> Iterator[None]:
    """Watch the current flow run in this context, if it is one of a deployment.

    Waits first while another process executes the same run: one that was taken for dead and is
    alive, e.g. since its worker was killed and it was not. Afterwards the store has its results.
    """
    run = deployed_run_id()
    if run is None:
        yield
        return
    with store.claim("flow-run", str(run), lambda: logger.warning(_TWIN, run)):
        stop = threading.Event()
        thread = threading.Thread(target=_watch, args=(run, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()


_TWIN = "another process still executes run %s; waiting until it ends"


def deployed_run_id() -> UUID | None:
    """Return the id of the current flow run if a worker started it, else None."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.deployment_id is None:
        return None
    return context.flow_run.id


def _watch(run: UUID, stop: threading.Event) -> None:
    cancelling_since: float | None = None
    while not stop.wait(CANCEL_POLL_SECONDS if cancelling_since else POLL_SECONDS):
        try:
            with few_retries(), get_client(sync_client=True) as client:
                state = client.read_flow_run(run).state
                if stop.is_set() or state is None:
                    continue
                if not (state.is_cancelling() or state.is_cancelled()):
                    cancelling_since = None
                    if _is_taken_for_dead(state):
                        _report_alive(client, run)
                    continue
                cancelling_since = cancelling_since or time.monotonic()
                if time.monotonic() - cancelling_since >= CANCEL_GRACE_SECONDS:
                    _end_cancelled(client, run)
        except (httpx.HTTPError, PrefectException) as error:
            logger.debug("the state of run %s is unknown: %s", run, error)


def _is_taken_for_dead(state: State[Any]) -> bool:
    return state.type is StateType.CRASHED or state.name == "AwaitingRetry"


def _report_alive(client: SyncPrefectClient, run: UUID) -> None:
    logger.warning("run %s was taken for dead after an outage; it is alive", run)
    client.set_flow_run_state(run, Running(message="Alive: the server was down"), force=True)


def _end_cancelled(client: SyncPrefectClient, run: UUID) -> None:
    """End this process with all its units; nothing else does so any more."""
    logger.warning("run %s was cancelled and nobody ended it; ending", run)
    terminate_all_units()
    try:
        client.set_flow_run_state(run, Cancelled(message="Cancelled by the run itself"), force=True)
    finally:
        os._exit(0)
