"""What every flow run shares: the workspace opened once, the board, what is left in the UI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext
from prefect.exceptions import Pause

from flows.shutdown import terminate_units
from mimix_core.diagnostics.model_requirements import FLOWS_WITH
from mimix_core.errors import StageFailed
from mimix_core.project.workspace import open_workspace
from mimix_core.settings import Config
from tasks.base import Run
from tasks.captions import load_captioner_key
from tasks.console_progress import Stopwatch
from tasks.cutouts import load_locator_key
from tasks.judgements import load_judge_key
from tasks.lineage import record_lineage
from tasks.prefect_artifacts import publish_run_artifacts
from tasks.task_runners import task_runner

MAX_ATTEMPTS = 10
"""A run whose process is killed is taken up again (deployments/automations.yaml), but not for ever.
A review and each retry from the UI count as well."""


@contextmanager
def flow_session(config: Config, flow_name: str) -> Iterator[Run]:
    """Open the workspace, hand out a Run, and leave its artifacts however it ends.

    When the run is ended from outside (cancelled, its worker stopped) the units end with it, at
    once; what they had finished stays, and the same run goes on from there.
    """
    watch = Stopwatch()
    _check_attempt_count()
    _load_api_keys(config, flow_name)
    run = Run(open_workspace(config))
    try:
        with task_runner(config.run), run.workspace.store.in_use():
            yield run
    except (Exception, Pause):
        publish_run_artifacts(run, flow_name, watch.seconds())
        raise
    except BaseException:
        terminate_units()
        raise
    record_lineage(run)
    publish_run_artifacts(run, flow_name, watch.seconds())


def _load_api_keys(config: Config, flow_name: str) -> None:
    """See to the keys of all models that the flow asks, before any work. Raises BadInput."""
    load_captioner_key(config.captions)
    if flow_name in FLOWS_WITH["cutouts"]:
        load_locator_key(config.cutouts)
    if flow_name in FLOWS_WITH["scores"]:
        load_judge_key(config.judge)


def _check_attempt_count() -> None:
    """Raise StageFailed when this run has been started too often: something kills it each time."""
    context = FlowRunContext.get()
    attempts = 0 if context is None or context.flow_run is None else context.flow_run.run_count
    if attempts > MAX_ATTEMPTS:
        raise StageFailed(
            f"this run was started {attempts} times and never came to its end: see the worker's "
            "log, and the logs folder of the workspace, for what ends it"
        )
