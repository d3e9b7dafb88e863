"""Find runs that were killed or never started, and schedule them again.

`mimix worker` and `mimix watch` look at the states of all runs. Prefect's automations see events
instead, and an event can be lost: the server was killed before it looked at it, or its SQLite was
busy at four attempts. A run that depends on a lost event would wait forever and keep its slot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectException
from prefect.states import AwaitingRetry, Cancelled, Crashed

from flows.deployed_state import MIMIX_TAG
from flows.deployment import read_deployment_file
from tasks.server_connection import few_retries

SWEEP_SECONDS = 20.0
"""Interval of looks at all runs."""

GRACE = timedelta(seconds=30)
"""Time that others have before a sweep does their work: the automation mimix-killed-run-again, and
a run that was cancelled."""

START_LIMIT = timedelta(seconds=180)
"""Time from a worker's taking a run to the run's start."""

HEARTBEAT_LIMIT = timedelta(seconds=90)
"""A run sends a heartbeat every 30 s."""

MAX_AGE = timedelta(days=1)
"""Runs that were killed longer ago are not taken up: somebody may have given them up."""

PAGE = 200
HEARTBEAT = "prefect.flow-run.heartbeat"
NOT_STARTED = "No start within 180 s: the worker that took the run is gone"
GONE = "Cancelled after its process was gone"
SILENT = "No heartbeat for 90 s: the process of the run is gone"


def killed_messages() -> tuple[str, ...]:
    """Return the patterns of the messages of runs that were killed, from automations.yaml."""
    automations = read_deployment_file("automations.yaml")["automations"]
    [spec] = [one for one in automations if one["name"] == "mimix-killed-run-again"]
    return tuple(spec["trigger"]["match"]["prefect.state-message"])


@dataclass
class Sweeper:
    """Looks at runs again and again.

    ``listening_since``: since when the server has been reachable (``time.monotonic``). Before, no
    heartbeat could arrive.
    """

    listening_since: float = field(default_factory=time.monotonic)
    killed: tuple[str, ...] = field(default_factory=killed_messages)

    def sweep(self, client: SyncPrefectClient, grace: timedelta = GRACE) -> None:
        """Set stuck runs to Crashed or Cancelled, and killed ones to AwaitingRetry.

        ``grace``: the time that an automation and the runs themselves have before.
        """
        now = datetime.now(UTC)
        for run in _runs_in(client, StateType.CRASHED):
            if grace <= _age(run, now) <= MAX_AGE and self._was_killed(run):
                client.set_flow_run_state(
                    run.id, AwaitingRetry(scheduled_time=now, message="Taken up by a sweep")
                )
        for run in _runs_in(client, StateType.PENDING):
            if _age(run, now) >= START_LIMIT:
                client.set_flow_run_state(run.id, Crashed(message=NOT_STARTED), force=True)
        for run in _runs_in(client, StateType.CANCELLING):
            # A live run has ended itself by now (flows/run_watchdog.py).
            if _age(run, now) >= HEARTBEAT_LIMIT + grace:
                client.set_flow_run_state(run.id, Cancelled(message=GONE), force=True)
        if time.monotonic() - self.listening_since >= HEARTBEAT_LIMIT.total_seconds():
            for run in _runs_in(client, StateType.RUNNING):
                if _age(run, now) >= HEARTBEAT_LIMIT and not _has_heartbeat(client, run.id, now):
                    client.set_flow_run_state(run.id, Crashed(message=SILENT), force=True)

    def forget(self) -> None:
        """Start anew after an outage of the server: heartbeats could not arrive."""
        self.listening_since = time.monotonic()

    def _was_killed(self, run: FlowRun) -> bool:
        message = (run.state and run.state.message) or ""
        return any(fnmatchcase(message, pattern) for pattern in self.killed)


def sweep_until(stopping: threading.Event) -> None:
    """Sweep every 20 s until the event is set; outages of the server are waited out."""
    sweeper = Sweeper()
    while not stopping.wait(SWEEP_SECONDS):
        try:
            with few_retries(), get_client(sync_client=True) as client:
                sweeper.sweep(client)
        except (httpx.HTTPError, PrefectException):
            sweeper.forget()


def sweep_in_background(stopping: threading.Event) -> None:
    """Sweep in a thread of its own, which does not hold the end of the process up."""
    threading.Thread(target=sweep_until, args=(stopping,), daemon=True).start()


def _runs_in(client: SyncPrefectClient, state: StateType) -> Iterator[FlowRun]:
    of_mimix = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[MIMIX_TAG]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state])),
    )
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=of_mimix, limit=PAGE, offset=len(found)):
        found += page
        if len(page) < PAGE:
            break
    yield from found


def _age(run: FlowRun, now: datetime) -> timedelta:
    return timedelta() if run.state is None else now - run.state.timestamp


def _has_heartbeat(client: SyncPrefectClient, run: UUID, now: datetime) -> bool:
    """Return whether the server has received a heartbeat of the run within the last 90 s."""
    asked = {
        "event": {"name": [HEARTBEAT]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
        "occurred": {"since": (now - HEARTBEAT_LIMIT).isoformat(), "until": now.isoformat()},
    }
    reply = client.request("POST", "/events/filter", json={"filter": asked, "limit": 1})
    return bool(reply.raise_for_status().json()["events"])
