"""``mimix deploy``: deploy all flows to a Prefect server with the settings of one library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows import prefect_environment
from flows.console import SettingsArgument, WorkspaceOption, console, load_settings, user_errors
from mimix_core.errors import BadInput

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from flows.deployed_state import DeployedFlow

MAX_CHANGES_SHOWN = 12
"""Number of changes of a deployment that are printed one by one."""


def deploy(
    settings: SettingsArgument,
    workspace: WorkspaceOption = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of this library's deployments, as in train/NAME. Default: the name of the "
            "library's folder."
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Take over deployments of another library or workspace."),
    ] = False,
    pool: Annotated[
        str | None,
        typer.Option(
            help="Name of the work pool. Default: the one deployed to before, or mimix-process."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            help="Type of the work pool: process, docker or kubernetes. Default: the type of the "
            "existing pool, or process.",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of concurrent runs on GPUs, over the pool. Default: the queue's "
            "present limit, or 1 for a new queue.",
        ),
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="MiMix's folder on the workers. Default: this checkout.")
    ] = None,
    notify: Annotated[
        str | None,
        typer.Option(
            help="Notification block (type/name) for runs that fail or wait for approval."
        ),
    ] = None,
    reset_pool: Annotated[
        bool,
        typer.Option("--reset-pool", help="Replace the job template of an existing pool."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change without changing it.")
    ] = False,
) -> None:
    """Create or update work pool, deployments and automations on your Prefect server.

    Each library has deployments of its own, by name. What was paused, switched off or set in the
    UI stays; whatever else changes is printed first.
    """
    with user_errors():
        config = load_settings(settings, workspace)
        prefect_environment.configure_prefect()
        url = require_server_url("mimix deploy")
        from prefect.client.orchestration import get_client

        from flows import deployed_state, deployment

        with get_client(sync_client=True) as client:
            check_server(client, url)
            block = None if notify is None else deployment.find_notification_block(client, notify)
            library_name = deployed_state.choose_name(config, name)
            owner = deployed_state.owner_of(config)
            everything = deployed_state.read_deployed_flows(client, deployment.flow_names())
            if not replace:
                deployed_state.check_owner(everything, library_name, owner)
            deployed = [one for one in everything if one.deployment.name == library_name]
            target = deployment.choose_target(
                client, pool, kind, home or deployment.ROOT, [one.deployment for one in deployed]
            )
            spec = deployment.render_deployments(config, target, library_name, deployed)
            _print_plan(deployed, spec, target.home)
            _print_other_names(deployed_state.other_names(everything, library_name, owner))
            has_queue, limit = deployment.read_gpu_limit(client, target.pool)
            wanted = gpus or (limit if has_queue else 1)
            if has_queue and wanted != limit:
                _print(f"queue {deployment.GPU_QUEUE}: limit {limit or 'none'} -> {wanted}")
            if dry_run:
                _print("Nothing was changed (--dry-run).")
                return
            created = deployment.create_work_pool(client, target)
            _print(f"work pool {target.pool}: {'created' if created else 'exists'}")
            if not created and deployment.differs_from_job_template(client, target):
                if reset_pool:
                    deployment.reset_job_template(client, target)
                state = "replaced" if reset_pool else "left as it is; --reset-pool replaces it"
                _print(f"work pool {target.pool}: its job template differs from MiMix's: {state}")
            with console.status("Creating the deployments"):
                deployment.run_prefect_deploy(spec, target)
            if wanted is not None and (wanted != limit or not has_queue):
                deployment.set_gpu_limit(client, target.pool, wanted)
            for entry in spec["deployments"]:
                _print(f"deployment {entry['flow_name']}/{library_name}")
            actions = deployment.install_automations(client, block, _print)
            for automation, action in actions.items():
                _print(f"automation {automation}: {action}")
    # Prefect's own worker for containers: they end with the run that they were started for.
    command = "mimix worker" if target.pool_type == "process" else "prefect worker start"
    _print(f"Start a worker: {command} --pool {target.pool}")
    if target.pool_type != "process":
        _print("Keep `mimix watch` running as well: it schedules runs again that were killed.")


def _print(line: str) -> None:
    console.print(escape(line), highlight=False, soft_wrap=True)


def _print_plan(deployed: Sequence[DeployedFlow], spec: Mapping[str, Any], home: Path) -> None:
    """Print what deploying changes in existing deployments, and what it keeps of people."""
    from flows import deployed_state, deployment

    defaults = {entry["name"]: entry for entry in deployment.read_deployments()}
    by_flow = {entry["flow_name"]: entry for entry in spec["deployments"]}
    for one in deployed:
        changes = list(deployed_state.describe_changes(by_flow[one.flow], one, str(home)))
        for setting, before, after in changes[:MAX_CHANGES_SHOWN]:
            _print(f"{one.full_name}: {setting}: {before} -> {after}")
        if len(changes) > MAX_CHANGES_SHOWN:
            _print(f"{one.full_name}: and {len(changes) - MAX_CHANGES_SHOWN} more changes")
        kept = deployed_state.describe_kept(one, defaults[one.flow])
        if kept:
            _print(f"{one.full_name}: stays as it was set: {', '.join(kept)}")


def _print_other_names(names: Sequence[str]) -> None:
    if names:
        _print(
            f"warning: this library is also deployed as {', '.join(names)}. These deployments stay "
            "as they are, with their schedules; prefect deployment delete removes them."
        )


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
