"""Create work pool, queue limit, deployments and automations on a Prefect server.

Each step brings the server to the state that ``deployments/`` describes, so the command can be
repeated. What people set in the UI stays (flows/deployed_state.py), and whatever else changes is
announced before it is done.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from flows.deployed_state import DeployedFlow, differences, keep_settings_of_people
from mimix_core.engine.child_environment import child_environment
from mimix_core.errors import BadInput, StageFailed
from mimix_core.settings import Config
from tasks.events import INBOX_LABEL, inbox_digest

ROOT = Path(__file__).resolve().parent.parent
DEPLOYMENTS_FOLDER = ROOT / "deployments"
GPU_QUEUE = "gpu"
DEFAULT_POOL = "mimix-process"
NOTIFY_PLACEHOLDER = "NOTIFY"
"""Placeholder in automations.yaml for the id of the notification block."""


@dataclass(frozen=True)
class DeploymentTarget:
    """Work pool that runs are submitted to; ``home`` is MiMix's folder on the workers."""

    pool: str
    pool_type: str
    home: Path


def read_deployment_file(name: str) -> Any:
    """Read a YAML file of the folder ``deployments``. Raises BadInput outside a checkout."""
    path = DEPLOYMENTS_FOLDER / name
    if not path.is_file():
        raise BadInput(
            f"no file {path}",
            fix="Deploy from a checkout of MiMix (pip install -e .), or from its image.",
        )
    return yaml.safe_load(path.read_text())


def read_deployments() -> list[dict[str, Any]]:
    """Read the deployments of prefect.yaml, each named like its flow."""
    deployments: list[dict[str, Any]] = read_deployment_file("prefect.yaml")["deployments"]
    return deployments


def flow_names() -> list[str]:
    """Return the names of the flows that are deployed."""
    return [deployment["name"] for deployment in read_deployments()]


def choose_target(
    client: SyncPrefectClient,
    pool: str | None,
    pool_type: str | None,
    home: Path,
    deployed: Sequence[DeploymentResponse],
) -> DeploymentTarget:
    """Complete the target: by default the pool of the existing deployments, and its type."""
    pools = [one.work_pool_name for one in deployed if one.work_pool_name]
    name = pool or next(iter(pools), DEFAULT_POOL)
    if pool_type is None:
        try:
            pool_type = client.read_work_pool(name).type
        except ObjectNotFound:
            pool_type = "process"
    return DeploymentTarget(name, pool_type, home)


def create_work_pool(client: SyncPrefectClient, target: DeploymentTarget) -> bool:
    """Create the work pool unless it exists; return whether it was created. Raises BadInput."""
    try:
        found = client.read_work_pool(target.pool)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=target.pool,
                type=target.pool_type,
                base_job_template=build_job_template(target.pool_type),
            )
        )
        return True
    if found.type != target.pool_type:
        raise BadInput(
            f"work pool {target.pool} is of type {found.type}, not {target.pool_type}",
            fix="Choose another --pool, or the pool's --type.",
        )
    return False


def differs_from_job_template(client: SyncPrefectClient, target: DeploymentTarget) -> bool:
    """Return whether an existing pool of containers has another job template than MiMix's."""
    if target.pool_type == "process":
        return False
    template = client.read_work_pool(target.pool).base_job_template
    return template != build_job_template(target.pool_type)


def reset_job_template(client: SyncPrefectClient, target: DeploymentTarget) -> None:
    """Replace the pool's job template by MiMix's."""
    client.update_work_pool(
        target.pool, WorkPoolUpdate(base_job_template=build_job_template(target.pool_type))
    )


def build_job_template(kind: str) -> dict[str, Any]:
    """Build Prefect's job template for a type of pool, with the changes of work-pools.yaml."""
    kinds = read_deployment_file("work-pools.yaml")
    if kind not in kinds:
        raise BadInput(f"no work pool of type {kind!r}", fix=f"Choose one of: {', '.join(kinds)}.")
    template = asyncio.run(get_default_base_job_template_for_infrastructure_type(kind))
    if template is None:
        raise BadInput(f"this version of Prefect has no work pools of type {kind!r}")
    properties = template["variables"]["properties"]
    for name, value in kinds[kind]["variables"].items():
        properties[name]["default"] = value
    if "pod" in kinds[kind]:
        pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
        pod.update(kinds[kind]["pod"])
        pod["containers"][0].update(kinds[kind]["container"])
    return dict(template)


def render_deployments(
    config: Config, target: DeploymentTarget, name: str, deployed: Sequence[DeployedFlow]
) -> dict[str, Any]:
    """Load prefect.yaml and set name, parameters and work pool of a library's deployments.

    The parameters contain only values of the settings file: all others follow MiMix's defaults,
    including those of later versions. ``deployed``: the deployments with this name on the server,
    whose settings by people are not changed.
    """
    spec: dict[str, Any] = read_deployment_file("prefect.yaml")
    parameters = {"config": config.model_dump(mode="json", exclude_unset=True)}
    by_flow = {one.flow: one for one in deployed}
    for deployment in spec["deployments"]:
        flow = deployment["name"]
        deployment["name"] = name
        deployment["flow_name"] = flow
        deployment["tags"] = [*deployment["tags"], f"library:{name}"]
        deployment["parameters"] = parameters
        work_pool = deployment["work_pool"]
        variables = {**work_pool["job_variables"], "command": run_command(target)}
        deployment["work_pool"] = {**work_pool, "name": target.pool, "job_variables": variables}
        for trigger in deployment.get("triggers", []):
            trigger["name"] += f"-{name}"
            trigger["match"][INBOX_LABEL] = inbox_digest(config.inbox)
        if flow in by_flow:
            keep_settings_of_people(deployment, by_flow[flow])
    return spec


def run_command(target: DeploymentTarget) -> str:
    """Return the command that starts a run: Prefect's own cannot wait for the server.

    Workers that share this checkout use this Python, others the one on their path.
    """
    python = sys.executable if target.home == ROOT else "python"
    return f"{shlex.quote(python)} -m flows.deployed_run"


def run_prefect_deploy(spec: dict[str, Any], target: DeploymentTarget) -> None:
    """Create all deployments with Prefect's own command. Raises StageFailed with its output."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="mimix-") as file:
        # JSON is valid YAML, and quotes every string unambiguously.
        json.dump(spec, file)
        file.flush()
        command = ["--no-prompt", "deploy", "--prefect-file", file.name, "--all"]
        result = subprocess.run(
            [sys.executable, "-m", "prefect", *command],
            cwd=ROOT,
            env={**child_environment(prefixes=("PREFECT_",)), "MIMIX_HOME": str(target.home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        raise StageFailed(f"prefect deploy failed:\n{result.stdout}")


def read_gpu_limit(client: SyncPrefectClient, pool: str) -> tuple[bool, int | None]:
    """Return whether the pool has a GPU queue, and its limit; None if it is unlimited."""
    try:
        queues = client.read_work_queues(work_pool_name=pool)
    except ObjectNotFound:
        return False, None
    found = [queue for queue in queues if queue.name == GPU_QUEUE]
    return bool(found), found[0].concurrency_limit if found else None


def set_gpu_limit(client: SyncPrefectClient, pool: str, gpus: int) -> None:
    """Limit the number of concurrent runs of the GPU queue."""
    queues = client.read_work_queues(work_pool_name=pool)
    [queue] = [queue for queue in queues if queue.name == GPU_QUEUE]
    client.update_work_queue(queue.id, concurrency_limit=gpus)


REPLACED_AUTOMATIONS = ("mimix-silent-run-crashed", "mimix-run-not-started-crashed")
"""Automations of earlier versions; ``flows/stranded_runs.py`` does their work."""


def install_automations(
    client: SyncPrefectClient,
    notify: UUID | None,
    announce: Callable[[str], None] = lambda change: None,
) -> dict[str, str]:
    """Create or update each automation of automations.yaml; return the action taken for each.

    ``announce`` is called with each value that changes, before it does. Automations of earlier
    versions that nothing needs any more are deleted.
    """
    actions = {}
    for name in REPLACED_AUTOMATIONS:
        for replaced in client.read_automations_by_name(name):
            announce(f"automation {name}: is not needed any more, see mimix worker --help")
            client.request("DELETE", "/automations/{id}", path_params={"id": replaced.id})
            actions[name] = "deleted"
    for spec in read_deployment_file("automations.yaml")["automations"]:
        name = spec["name"]
        if notify is None and any(
            a.get("block_document_id") == NOTIFY_PLACEHOLDER for a in spec["actions"]
        ):
            continue
        for action in spec["actions"]:
            if action.get("block_document_id") == NOTIFY_PLACEHOLDER:
                action["block_document_id"] = str(notify)
        automation = AutomationCore.model_validate(spec)
        existing = client.read_automations_by_name(name)
        if not existing:
            client.request("POST", "/automations/", json=_to_json(automation)).raise_for_status()
            actions[name] = "created"
            continue
        current, *duplicates = existing
        automation = automation.model_copy(update={"enabled": current.enabled})
        for duplicate in duplicates:
            client.request("DELETE", "/automations/{id}", path_params={"id": duplicate.id})
        unchanged = _comparable(current) == _comparable(automation)
        if not unchanged:
            for key, before, after in differences(
                name, _comparable(current), _comparable(automation)
            ):
                announce(f"automation {key}: {before} -> {after}")
            client.request(
                "PUT",
                "/automations/{id}",
                path_params={"id": current.id},
                json=_to_json(automation),
            ).raise_for_status()
        actions[name] = "unchanged" if unchanged and not duplicates else "updated"
    return actions


def _comparable(automation: Automation | AutomationCore) -> dict[str, Any]:
    """Reduce an automation to comparable values: sets, since their order in JSON varies."""
    core = AutomationCore.model_validate(automation.model_dump(mode="json"))
    return core.model_dump(exclude={"owner_resource"})


def _to_json(automation: AutomationCore) -> dict[str, Any]:
    return automation.model_dump(mode="json", exclude={"owner_resource"})


def find_notification_block(client: SyncPrefectClient, slug: str) -> UUID:
    """Return the id of a notification block, named ``type/name``. Raises BadInput."""
    kind, _, name = slug.partition("/")
    try:
        return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound as error:
        raise BadInput(
            f"Prefect has no block {slug}",
            where="--notify",
            fix="Create it in the UI under Blocks, e.g. Slack Webhook, and use its type/name.",
        ) from error
