"""Where the units of a flow run are run: in threads of this process, or by a Dask cluster."""

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
    from prefect_dask import DaskTaskRunner


@contextmanager
def task_runner(settings: RunSettings) -> Iterator[None]:
    """Within a flow run: its tasks are submitted to the task runner of the settings.

    A flow's own runner is chosen when its module is imported, before any settings are known; so the
    runner of this one run is put in its place. Raises BadInput when the settings ask for Dask and
    it is not installed, its scheduler does not answer, or its workers could not reach the server.
    """
    if settings.task_runner == "threads":
        yield
        return
    context = FlowRunContext.get()
    if context is None:
        raise RuntimeError("a task runner is of a flow run, and none is running")
    with _server_address_set(settings), _dask_task_runner(settings) as runner:
        try:
            runner.client  # noqa: B018 - the first use connects: now, not at the first unit
        except OSError as error:
            raise BadInput(
                f"no Dask scheduler answers: {error}",
                where="settings, key run.dask_scheduler",
                fix="Start one with `dask scheduler`, and `dask worker ADDRESS` on each machine.",
            ) from error
        with context.model_copy(update={"task_runner": runner}):
            yield


@contextmanager
def _server_address_set(settings: RunSettings) -> Iterator[None]:
    """Dask's workers are told where Prefect's server is: else each would start one of its own."""
    if settings.dask_scheduler is not None and PREFECT_API_URL.value() is None:
        raise BadInput(
            "this run has a Prefect server of its own, which other machines do not reach",
            where="settings, key run.dask_scheduler",
            fix="Start `prefect server start` and set PREFECT_API_URL to it (docs/scale.md).",
        )
    with get_client(sync_client=True) as client:
        url = str(client.api_url)
    with temporary_settings({PREFECT_API_URL: url}):
        yield


def _dask_task_runner(settings: RunSettings) -> DaskTaskRunner:
    try:
        from prefect_dask import DaskTaskRunner
    except ModuleNotFoundError as error:
        raise BadInput(
            "Dask is not installed",
            where="settings, key run.task_runner",
            fix="pip install 'mimix[dask]', here and on every worker; or run.task_runner: threads",
        ) from error
    # The board speaks on the console. To Dask each connection is news, and a worker that it has to
    # kill in the end, when all units are done, a warning.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    logging.getLogger("distributed.nanny").setLevel(logging.ERROR)
    if settings.dask_scheduler is not None:
        return DaskTaskRunner(address=settings.dask_scheduler)
    # A unit is a process with threads of its own already: one at a time a worker. Any free port for
    # Dask's own pages: two runs on one machine do not ask for the same.
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": settings.max_workers,
            "threads_per_worker": 1,
            "dashboard_address": "127.0.0.1:0",
        }
    )
