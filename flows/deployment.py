"""What ``mimix deploy`` does on a Prefect server: pool, queue, deployments, automations.

Each step brings the server to the state that ``deployments/`` describes, so the command may be
repeated; what a person has switched on or off in the UI stays as it is.
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
"""Stands in automations.yaml for the id of the block that sends notifications."""


@dataclass(frozen=True)
class DeploymentTarget:
    """Where runs go. ``home``: the folder of MiMix as the worker sees it."""

    pool: str
    pool_type: str
    gpus: int
    home: Path


def read_deployment_file(name: str) -> Any:
    """A YAML file of the folder ``deployments``. Raises BadInput where MiMix is only a package."""
    path = DEPLOYMENTS_FOLDER / name
    if not path.is_file():
        raise BadInput(
            f"no file {path}",
            fix="Deploy from a checkout of MiMix (pip install -e .), or from its image.",
        )
    return yaml.safe_load(path.read_text())


def create_work_pool(client: SyncPrefectClient, target: DeploymentTarget) -> bool:
    """Make the work pool if there is none of that name. True: made now. Raises BadInput."""
    try:
        found = client.read_work_pool(target.pool)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=target.pool, type=target.pool_type, base_job_template=build_job_template(target.pool_type)
            )
        )
        return True
    if found.type != target.pool_type:
        raise BadInput(
            f"work pool {target.pool} is of type {found.type}, not {target.pool_type}",
            fix="Give another --pool, or the --type that it has.",
        )
    if target.pool_type != "process":
        client.update_work_pool(
            target.pool, WorkPoolUpdate(base_job_template=build_job_template(target.pool_type))
        )
    return False


def build_job_template(kind: str) -> dict[str, Any]:
    """Prefect's job template of that type of pool with the changes of work-pools.yaml."""
    kinds = read_deployment_file("work-pools.yaml")
    if kind not in kinds:
        raise BadInput(f"no work pool of type {kind!r}", fix=f"There are: {', '.join(kinds)}.")
    template = asyncio.run(get_default_base_job_template_for_infrastructure_type(kind))
    if template is None:
        raise BadInput(f"this Prefect knows no work pool of type {kind!r}")
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
    """prefect.yaml with the settings as parameters, the pool, and schedules on as ``active`` says.

    Only what the settings file says stands in the parameters: everything else follows MiMix's
    defaults, also those of a later version.
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
    """Of each schedule of MiMix that the server has, by ``deployment/slug``: is it on?"""
    found = {}
    for deployment in read_deployment_file("prefect.yaml")["deployments"]:
        name = deployment["name"]
        try:
            there = client.read_deployment_by_name(f"{name}/{name}")
        except ObjectNotFound:
            continue
        for schedule in there.schedules:
            found[f"{name}/{schedule.slug}"] = schedule.active
    return found


def run_prefect_deploy(spec: dict[str, Any], target: DeploymentTarget) -> None:
    """Let Prefect's own command make all deployments. Raises StageFailed with what it printed."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="mimix-") as file:
        # JSON is YAML, and leaves nothing of a path or a caption open to another reading.
        json.dump(spec, file)
        file.flush()
        command = ["--no-prompt", "deploy", "--prefect-file", file.name, "--all"]
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *command],
            cwd=ROOT,
            env={**os.environ, "MIMIX_HOME": str(target.home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise StageFailed(f"prefect deploy failed:\n{done.stdout}")


def set_gpu_limit(client: SyncPrefectClient, target: DeploymentTarget) -> None:
    """At most so many runs that train or generate at a time."""
    queues = client.read_work_queues(work_pool_name=target.pool)
    [queue] = [queue for queue in queues if queue.name == GPU_QUEUE]
    client.update_work_queue(queue.id, concurrency_limit=target.gpus)


def install_automations(client: SyncPrefectClient, notify: UUID | None) -> dict[str, str]:
    """Make one of each automation of automations.yaml, as it is there; gives what was done."""
    done = {}
    for spec in read_deployment_file("automations.yaml")["automations"]:
        name = spec["name"]
        if notify is None and any(a.get("block_document_id") == NOTIFY_PLACEHOLDER for a in spec["actions"]):
            continue
        for action in spec["actions"]:
            if action.get("block_document_id") == NOTIFY_PLACEHOLDER:
                action["block_document_id"] = str(notify)
        wanted = AutomationCore.model_validate(spec)
        there = client.read_automations_by_name(name)
        if not there:
            _send_automation(client, "POST", "/automations/", wanted)
            done[name] = "made"
            continue
        kept, *doubled = there
        wanted = wanted.model_copy(update={"enabled": kept.enabled})
        for one in doubled:
            client.request("DELETE", "/automations/{id}", path_params={"id": one.id})
        same = _comparable(kept) == _comparable(wanted)
        if not same:
            _send_automation(client, "PUT", f"/automations/{kept.id}", wanted)
        done[name] = "was there" if same and not doubled else "brought up to date"
    return done


def _comparable(automation: Automation | AutomationCore) -> dict[str, Any]:
    """All that makes two automations the same; events are sets, which JSON gives in any order."""
    said = AutomationCore.model_validate(automation.model_dump(mode="json"))
    return said.model_dump(exclude={"owner_resource"})


def _send_automation(client: SyncPrefectClient, method: str, path: str, automation: AutomationCore) -> None:
    said = automation.model_dump(mode="json", exclude={"owner_resource"})
    reply = client.request(method, path, json=said)
    reply.raise_for_status()


def find_notification_block(client: SyncPrefectClient, slug: str) -> UUID:
    """The id of a notification block, named ``type/name`` as in the UI. Raises BadInput."""
    kind, _, name = slug.partition("/")
    try:
        return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound as error:
        raise BadInput(
            f"Prefect has no block {slug}",
            where="--notify",
            fix="Make one in the UI under Blocks, e.g. Slack Webhook, and give its type/name.",
        ) from error
