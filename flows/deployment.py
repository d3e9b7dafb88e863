"""Create work pool, queue limit, deployments and automations on a Prefect server.

Each step brings the server to the state that ``deployments/`` describes, so the command can be
repeated; schedules and automations keep the on/off state that was set in the UI.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from mimix_core.errors import BadInput, StageFailed
from mimix_core.settings import Config

ROOT = Path(__file__).resolve().parent.parent
DEPLOYMENTS_FOLDER = ROOT / "deployments"
GPU_QUEUE = "gpu"
NOTIFY_PLACEHOLDER = "NOTIFY"
"""Placeholder in automations.yaml for the id of the notification block."""


@dataclass(frozen=True)
class DeploymentTarget:
    """Work pool that runs are submitted to; ``home`` is MiMix's folder on the workers."""

    pool: str
    pool_type: str
    gpus: int
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
    if target.pool_type != "process":
        client.update_work_pool(
            target.pool, WorkPoolUpdate(base_job_template=build_job_template(target.pool_type))
        )
    return False


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
    config: Config, target: DeploymentTarget, active: Mapping[str, bool]
) -> dict[str, Any]:
    """Load prefect.yaml and set parameters, work pool, and the schedules' on/off state.

    The parameters contain only values of the settings file: all others follow MiMix's defaults,
    including those of later versions.
    """
    spec: dict[str, Any] = read_deployment_file("prefect.yaml")
    parameters = {"config": config.model_dump(mode="json", exclude_unset=True)}
    for deployment in spec["deployments"]:
        deployment["parameters"] = parameters
        deployment["work_pool"] = {**deployment["work_pool"], "name": target.pool}
        for schedule in deployment.get("schedules", []):
            slug = f"{deployment['name']}/{schedule['slug']}"
            schedule["active"] = active.get(slug, schedule["active"])
    return spec


def read_schedule_states(client: SyncPrefectClient) -> dict[str, bool]:
    """Read whether each schedule on the server is active, by ``deployment/slug``."""
    states = {}
    for deployment in read_deployment_file("prefect.yaml")["deployments"]:
        name = deployment["name"]
        try:
            deployed = client.read_deployment_by_name(f"{name}/{name}")
        except ObjectNotFound:
            continue
        for schedule in deployed.schedules:
            states[f"{name}/{schedule.slug}"] = schedule.active
    return states


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
            env={**os.environ, "MIMIX_HOME": str(target.home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        raise StageFailed(f"prefect deploy failed:\n{result.stdout}")


def set_gpu_limit(client: SyncPrefectClient, target: DeploymentTarget) -> None:
    """Limit the number of concurrent runs of the GPU queue."""
    queues = client.read_work_queues(work_pool_name=target.pool)
    [queue] = [queue for queue in queues if queue.name == GPU_QUEUE]
    client.update_work_queue(queue.id, concurrency_limit=target.gpus)


def install_automations(client: SyncPrefectClient, notify: UUID | None) -> dict[str, str]:
    """Create or update each automation of automations.yaml; return the action taken for each."""
    actions = {}
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
