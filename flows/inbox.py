"""New episodes: from the inbox into the library, and through curation."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.curate import curate_stages
from flows.session import flow_session
from mimix_core.inbox import Arrival, Outcome, take_in
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import Config
from tasks.cached_run import MissingResult, ReadOnlyRun
from tasks.run_summary import RunSummary

MAX_ARRIVALS_SHOWN = 200


@flow(name="inbox")
def inbox(config: Config) -> RunSummary:
    """Take in what is whole in the inbox, then curate what is not curated yet.

    Whether there is anything to do is read from the inbox and the store alone, so any run of this
    flow finds all that is new: one that is missed, or comes twice, changes nothing. If nothing is
    new it makes no task run. What arrives meanwhile is taken in before it ends.
    """
    summary = RunSummary(stages=())
    _ingest_pending(config)
    while not _is_curated(config):
        with flow_session(config, "inbox") as run:
            curate_stages(run)
            summary = run.summary()
        _ingest_pending(config)
    return summary


def _ingest_pending(config: Config) -> None:
    """Move what has arrived to its place, and show what came of it unless all was known."""
    arrivals = [one for one in take_in(config) if one.outcome is not Outcome.KNOWN]
    if arrivals:
        create_table_artifact(
            table=[_arrival_row(one) for one in arrivals[:MAX_ARRIVALS_SHOWN]],
            key="mimix-inbox-arrivals",
            description=", ".join(
                f"{sum(one.outcome is outcome for one in arrivals)} {outcome.value}"
                for outcome in (Outcome.TAKEN, Outcome.BUSY, Outcome.REFUSED)
            ),
        )


def _arrival_row(arrival: Arrival) -> dict[str, str]:
    return {
        "file": str(arrival.path).encode(errors="backslashreplace").decode(),
        "outcome": arrival.outcome.value,
        "detail": arrival.detail,
    }


def _is_curated(config: Config) -> bool:
    try:
        curate_stages(ReadOnlyRun(open_workspace(config)))
    except MissingResult:
        return False
    return True
