"""``mimix worker``: a Prefect worker that ends when it is told to, and its runs with it."""

from __future__ import annotations

from typing import Annotated

import typer

from flows import prefect_environment
from flows.console import user_errors
from flows.deploy_cli import require_server_url


def worker(
    pool: Annotated[str, typer.Option(help="Name of the work pool.")] = "mimix-process",
    queue: Annotated[
        list[str] | None, typer.Option(help="Queue to take runs from. Default: all of the pool.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of runs at the same time.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the worker in Prefect's UI. Default: a unique one.")
    ] = None,
) -> None:
    """Start a worker that takes runs from the server, until SIGTERM or Ctrl-C ends it.

    Its runs end with it; another worker continues them. It also schedules runs again that were
    killed with their worker or machine, and runs that a worker took and never started.
    """
    with user_errors():
        prefect_environment.configure_prefect()
        require_server_url("mimix worker")
    from flows.worker_process import run_worker

    raise typer.Exit(run_worker(pool, queue or [], limit, name))
