"""Prefect's process worker, which leaves a run alone until the run's last process has ended.

A run that is resumed within seconds, e.g. because a reviewer answers at once, is scheduled while
its suspended process still holds its place under ``--limit``. Prefect 3.8's worker then takes the
run a second time and ends with "this borrower is already holding one of this CapacityLimiter's
tokens" (github.com/PrefectHQ/prefect/issues/11224).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Annotated

import typer
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.workers.process import ProcessWorker

from flows.process_tree import descendants, kill

_POLL_SECONDS = 0.5


class PatientProcessWorker(ProcessWorker):
    """A process worker that takes a run only after the run's last process has ended."""

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Return its name among Prefect's classes; the work pool's type stays ``process``."""
        return "mimix-process"

    async def _submit_scheduled_flow_runs(
        self, flow_run_response: list[WorkerFlowRunResponse]
    ) -> list[FlowRun]:
        """Start the scheduled runs that have no process here; the others are seen again soon."""
        held = self._limiter.statistics().borrowers if self._limiter else ()
        free = [entry for entry in flow_run_response if entry.flow_run.id not in held]
        return await super()._submit_scheduled_flow_runs(free)


def main(
    pool: Annotated[str, typer.Option(help="Name of the work pool.")],
    queue: Annotated[list[str] | None, typer.Option(help="Queue to take runs from.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Maximum number of runs at the same time.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the worker.")] = None,
    parent: Annotated[
        int | None, typer.Option(help="PID of the parent process: end when it ends.")
    ] = None,
) -> None:
    """Take runs from a work pool of type process until SIGINT."""
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    worker = PatientProcessWorker(work_pool_name=pool, work_queues=queue, limit=limit, name=name)
    try:
        asyncio.run(worker.start())
    except KeyboardInterrupt:
        typer.echo(f"Worker {worker.name!r} stopped.")


def _end_with(parent: int) -> None:
    """Kill this worker and its runs as soon as the parent has ended, e.g. by SIGKILL.

    Otherwise a worker that nobody watches would go on beside its successor. Its runs fall silent
    as they do when a machine loses power, and another worker continues them.
    """
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    for pid in descendants(os.getpid()):
        kill(pid)
    os._exit(1)


if __name__ == "__main__":
    typer.run(main)
