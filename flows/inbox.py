"""Flow ``inbox``: move new episodes from the inbox into the library and curate them."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.curate import curate_stages
from flows.session import flow_session
from mimix_core.engine.store import Store
from mimix_core.inbox import IngestOutcome, IngestResult, ingest_pending
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import Config, with_absolute_paths
from tasks.cached_run import MissingResult, ReadOnlyRun
from tasks.prefect_artifacts import escape_cells
from tasks.run_summary import RunSummary
from tasks.server_connection import best_effort

MAX_ARRIVALS_SHOWN = 200
INBOX_CLAIM = ("inbox", "all")
"""Held in the store by the run that is at work."""

ANOTHER_RUN = "Another run of the inbox is at work; it ingests what arrives meanwhile."


@flow(name="inbox")
def inbox(config: Config) -> RunSummary:
    """Ingest all complete files of the inbox, then curate episodes that are not curated yet.

    What there is to do depends only on the inbox and the store, so any run finds all new episodes,
    and a missed or superfluous run has no effect. Without new episodes no task runs. Files
    that arrive during the run are ingested before it ends, so that another run that starts
    meanwhile ends at once.
    """
    config = with_absolute_paths(config)
    store = Store(config.workspace / "store")
    if store.is_claimed(*INBOX_CLAIM):
        return RunSummary(stages=(), notices=(ANOTHER_RUN,))
    with store.claim(*INBOX_CLAIM, lambda: None):
        return _ingest_and_curate(config)


def _ingest_and_curate(config: Config) -> RunSummary:
    summary = RunSummary(stages=())
    _ingest_pending(config)
    while not _is_curated(config):
        with flow_session(config, "inbox") as run:
            curate_stages(run)
            summary = run.summary()
        _ingest_pending(config)
    return summary


def _ingest_pending(config: Config) -> None:
    """Ingest the files of the inbox and publish the outcomes, except of known files."""
    arrivals = [a for a in ingest_pending(config) if a.outcome is not IngestOutcome.DUPLICATE]
    if arrivals:
        with best_effort("the list of new episodes", retries=3):
            create_table_artifact(
                table=escape_cells(map(_arrival_row, arrivals[:MAX_ARRIVALS_SHOWN])),
                key="mimix-inbox-arrivals",
                description=", ".join(
                    f"{sum(a.outcome is outcome for a in arrivals)} {outcome.value}"
                    for outcome in (
                        IngestOutcome.ADDED,
                        IngestOutcome.INCOMPLETE,
                        IngestOutcome.REJECTED,
                    )
                ),
            )


def _arrival_row(arrival: IngestResult) -> dict[str, str]:
    return {
        "file": str(arrival.path),
        "outcome": arrival.outcome.value,
        "detail": arrival.detail,
    }


def _is_curated(config: Config) -> bool:
    try:
        curate_stages(ReadOnlyRun(open_workspace(config)))
    except MissingResult:
        return False
    return True
