"""Open and close a flow run: workspace, API keys, task runner, and artifacts in the UI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext
from prefect.exceptions import Pause

from flows.run_watchdog import watched_run
from flows.shutdown import terminate_units
from mimix_core.diagnostics.preflight import check_before_run
from mimix_core.diagnostics.run_estimates import estimate_run, find_gpu
from mimix_core.engine.flow_phases import phases_of_flow
from mimix_core.engine.stage import Phase
from mimix_core.errors import StageFailed
from mimix_core.project.live_status import live_status
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import Config, with_absolute_paths
from tasks.base import Run
from tasks.captions import load_captioner_key
from tasks.console_progress import Stopwatch
from tasks.cutouts import load_locator_key
from tasks.judgements import load_judge_key
from tasks.lineage import record_lineage
from tasks.prefect_artifacts import publish_run_artifacts
from tasks.server_connection import best_effort, wait_for_server
from tasks.task_runners import task_runner

MAX_ATTEMPTS = 10
"""Limit on the starts of one run: a killed run is started again (deployments/automations.yaml);
resuming after a review and retries from the UI count as well."""

PUBLISHING_RETRIES = 3


@contextmanager
def flow_session(config: Config, flow_name: str) -> Iterator[Run]:
    """Check what the flow needs, open the workspace, yield a Run, and publish its artifacts.

    When the run is ended from outside (cancelled, its worker stopped), its units are terminated
    immediately; finished units remain in the store, and the same run continues from there.
    """
    watch = Stopwatch()
    config = with_absolute_paths(config)
    _check_attempt_count()
    check_before_run(config, flow_name)
    wait_for_server(print)
    _load_api_keys(config, flow_name)
    run = Run(open_workspace(config))
    for check in estimate_run(config, flow_name, find_gpu()):
        if check.state != "ok":
            run.console.warn(f"{check.name}: {check.finding}. {check.fix}")
    store = run.workspace.store
    live = live_status(config.workspace, flow_name, _flow_run_id())
    try:
        with (
            task_runner(config.run),
            watched_run(store),
            store.in_use() as run.store_use,
            live as run.console.live,
        ):
            yield run
    except (Exception, Pause):
        _publish(run, flow_name, watch)
        raise
    except BaseException:
        terminate_units()
        raise
    with best_effort("the lineage of this run", PUBLISHING_RETRIES):
        record_lineage(run)
    _publish(run, flow_name, watch)


def _publish(run: Run, flow_name: str, watch: Stopwatch) -> None:
    """Publish the run's artifacts once the server answers: only then can the end be reported."""
    wait_for_server(run.console.warn)
    with best_effort("the artifacts of this run", PUBLISHING_RETRIES):
        publish_run_artifacts(run, flow_name, watch.seconds())
    wait_for_server(run.console.warn)


def _load_api_keys(config: Config, flow_name: str) -> None:
    """Load the API keys of all models that the flow uses, before any work. Raises BadInput."""
    load_captioner_key(config.captions)
    phases = phases_of_flow(flow_name)
    if Phase.AUGMENTATION in phases:
        load_locator_key(config.cutouts)
    if Phase.EVALUATION in phases:
        load_judge_key(config.judge)


def _flow_run_id() -> str:
    """Return the id of this run on the server; empty outside of a run."""
    context = FlowRunContext.get()
    return "" if context is None or context.flow_run is None else str(context.flow_run.id)


def _check_attempt_count() -> None:
    """Raise StageFailed if this run was started too often: something kills it every time."""
    context = FlowRunContext.get()
    attempts = 0 if context is None or context.flow_run is None else context.flow_run.run_count
    if attempts > MAX_ATTEMPTS:
        raise StageFailed(
            f"this run was started {attempts} times without finishing: see the worker's log and "
            "the logs folder of the workspace for the cause"
        )
