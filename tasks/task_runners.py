"""Select where the units of a flow run are executed: in threads, or on a Dask cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from mimix_core.errors import BadInput
from mimix_core.settings.config import RunSettings

if TYPE_CHECKING:
    from prefect_dask.task_runners import DaskTaskRunner


@contextmanager
def task_runner(settings: RunSettings) -> Iterator[None]:
    """Submit the tasks of the current flow run to the task runner of the settings.

    Prefect binds a task runner to a flow when its module is imported, before the settings are
    known; this context replaces the runner for one run. Raises BadInput if the settings select
    Dask and it is not installed, its scheduler does not answer, or its workers could not reach the
    Prefect server.
    """
    if settings.task_runner == "threads":
        yield
        return
    context = FlowRunContext.get()
    if context is None:
        raise RuntimeError("a task runner can only be selected within a flow run")
    with _server_address_set(settings), _dask_task_runner(settings) as runner:
        try:
            runner.client  # noqa: B018 - connect now instead of at the first unit
        except OSError as error:
            raise BadInput(
                f"no Dask scheduler answers: {error}",
                where="settings, key run.dask_scheduler",
                fix="Start it with `dask scheduler`, and `dask worker ADDRESS` on each machine.",
            ) from error
        with context.model_copy(update={"task_runner": runner}):
            yield


@contextmanager
def _server_address_set(settings: RunSettings) -> Iterator[None]:
    """Set the Prefect server's address for Dask's workers; each would else start a server."""
    if settings.dask_scheduler is not None and PREFECT_API_URL.value() is None:
        raise BadInput(
            "this run uses a temporary Prefect server, which other machines cannot reach",
            where="settings, key run.dask_scheduler",
            fix="Run `prefect server start` and set PREFECT_API_URL to its address.",
        )
    with get_client(sync_client=True) as client:
        url = str(client.api_url)
    with temporary_settings({PREFECT_API_URL: url}):
        yield


def _dask_task_runner(settings: RunSettings) -> DaskTaskRunner:
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ModuleNotFoundError as error:
        raise BadInput(
            "Dask is not installed",
            where="settings, key run.task_runner",
            fix="pip install 'mimix[dask]', here and on every worker; or run.task_runner: threads",
        ) from error
    # Dask logs every connection, and warns about workers that it kills after all units are done.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    logging.getLogger("distributed.nanny").setLevel(logging.ERROR)
    if settings.dask_scheduler is not None:
        return DaskTaskRunner(address=settings.dask_scheduler)
    # A unit is a multi-threaded process already: one at a time per worker. Port 0 lets Dask's
    # dashboard use any free port, since two runs may share a machine.
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": settings.max_workers,
            "threads_per_worker": 1,
            "dashboard_address": "127.0.0.1:0",
        }
    )
