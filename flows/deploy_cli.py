"""``mimix deploy``: deploy all flows to a Prefect server with the settings of one library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import prefect_environment
from flows.console import SettingsArgument, WorkspaceOption, console, load_settings, user_errors
from mimix_core.errors import BadInput

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


def deploy(
    settings: SettingsArgument,
    workspace: WorkspaceOption = None,
    pool: Annotated[str, typer.Option(help="Name of the work pool.")] = "mimix-process",
    kind: Annotated[
        str, typer.Option("--type", help="Type of the work pool: process, docker or kubernetes.")
    ] = "process",
    gpus: Annotated[
        int, typer.Option(min=1, help="Maximum number of concurrent runs on GPUs, over the pool.")
    ] = 1,
    home: Annotated[
        Path | None, typer.Option(help="MiMix's folder on the workers. Default: this checkout.")
    ] = None,
    notify: Annotated[
        str | None,
        typer.Option(
            help="Notification block (type/name) for runs that fail or wait for approval."
        ),
    ] = None,
) -> None:
    """Create or update work pool, deployments and automations on your Prefect server."""
    with user_errors():
        config = load_settings(settings, workspace)
        prefect_environment.configure_prefect()
        url = require_server_url("mimix deploy")
        from prefect.client.orchestration import get_client

        from flows import deployment

        target = deployment.DeploymentTarget(pool, kind, gpus, home or deployment.ROOT)
        with get_client(sync_client=True) as client:
            check_server(client, url)
            block = None if notify is None else deployment.find_notification_block(client, notify)
            created = deployment.create_work_pool(client, target)
            state = "created" if created else "exists"
            console.print(f"work pool {pool}: {state}", highlight=False)
            spec = deployment.render_deployments(
                config, target, deployment.read_schedule_states(client)
            )
            with console.status("Creating the deployments"):
                deployment.run_prefect_deploy(spec, target)
            deployment.set_gpu_limit(client, target)
            for name in (entry["name"] for entry in spec["deployments"]):
                console.print(f"deployment {name}/{name}", highlight=False)
            for name, action in deployment.install_automations(client, block).items():
                console.print(f"automation {name}: {action}", highlight=False)
    console.print(f"Start a worker: prefect worker start --pool {pool}", highlight=False)


def require_server_url(command: str) -> str:
    """Return the URL of the configured Prefect server. Raises BadInput if there is none."""
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if url is None:
        raise BadInput(
            f"{command} needs a Prefect server",
            where="PREFECT_API_URL",
            fix="Run prefect server start, then prefect config set "
            "PREFECT_API_URL=http://127.0.0.1:4200/api",
        )
    return str(url)


def check_server(client: SyncPrefectClient, url: str) -> None:
    """Raise BadInput if the server does not respond."""
    problem = client.api_healthcheck()
    if problem is not None:
        raise BadInput(
            f"no Prefect server responds at {url} ({problem})",
            where="PREFECT_API_URL",
            fix="Start it with prefect server start.",
        )
