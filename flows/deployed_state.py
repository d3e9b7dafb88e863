"""Read what is deployed on a Prefect server, so that a new deployment keeps what people set there.

The deployments of a library have one name under each flow, e.g. ``train/tom-and-jerry``. Their
parameter ``config`` names the library and the workspace that they belong to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowFilter,
    FlowFilterId,
)
from prefect.client.schemas.responses import DeploymentResponse

from mimix_core.errors import BadInput
from mimix_core.settings import Config

MIMIX_TAG = "mimix"
TRIGGER_NAME = "mimix-episode-arrived"
"""Beginning of the names of the automations that start deployments; see prefect.yaml."""
MAX_NAME_LENGTH = 40
_PAGE = 200
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True)
class Owner:
    """The library and the workspace of a deployment, as paths on its workers."""

    library: str
    workspace: str

    def __str__(self) -> str:
        return f"{self.library} with the workspace {self.workspace}"


@dataclass(frozen=True)
class DeployedFlow:
    """A deployment on the server."""

    flow: str
    deployment: DeploymentResponse
    trigger_enabled: bool | None
    """Whether the automation that starts it on events is on; None if it has none."""

    @property
    def full_name(self) -> str:
        return f"{self.flow}/{self.deployment.name}"

    @property
    def owner(self) -> Owner | None:
        """Return the library and workspace it belongs to; None if it was deployed without any."""
        config = self.deployment.parameters.get("config")
        if not isinstance(config, dict) or "library" not in config:
            return None
        return Owner(str(config["library"]), str(config.get("workspace", "")))


def owner_of(config: Config) -> Owner:
    """Return the library and workspace of the settings."""
    return Owner(str(config.library), str(config.workspace))


def read_deployed_flows(client: SyncPrefectClient, flows: Iterable[str]) -> list[DeployedFlow]:
    """Read MiMix's deployments of these flows, of all libraries, ordered by name."""
    found: list[DeploymentResponse] = []
    with_tag = DeploymentFilter(tags=DeploymentFilterTags(all_=[MIMIX_TAG]))
    while len(
        page := client.read_deployments(deployment_filter=with_tag, limit=_PAGE, offset=len(found))
    ):
        found += page
    if not found:
        return []
    ids = list({deployment.flow_id for deployment in found})
    names = {
        flow.id: flow.name
        for start in range(0, len(ids), _PAGE)
        for flow in client.read_flows(
            flow_filter=FlowFilter(id=FlowFilterId(any_=ids[start : start + _PAGE]))
        )
    }
    wanted = set(flows)
    deployed = [
        DeployedFlow(names[deployment.flow_id], deployment, _read_trigger_state(client, deployment))
        for deployment in found
        if names[deployment.flow_id] in wanted
    ]
    return sorted(deployed, key=lambda one: one.full_name)


def _read_trigger_state(client: SyncPrefectClient, deployment: DeploymentResponse) -> bool | None:
    """Return whether an automation that MiMix created for the deployment is on; None without any.

    The server does not say to which deployment an automation belongs, so its name decides.
    """
    related = client.read_resource_related_automations(f"prefect.deployment.{deployment.id}")
    own = [automation for automation in related if automation.name.startswith(TRIGGER_NAME)]
    return any(automation.enabled for automation in own) if own else None


def choose_name(config: Config, name: str | None) -> str:
    """Return the name of a library's deployments: ``name``, or the folder of its settings.

    Raises BadInput for a name that is not a word of lower-case letters, digits and hyphens.
    """
    if name is None:
        words = re.findall(r"[a-z0-9]+", config.library.parent.name.casefold())
        return "-".join(words)[:MAX_NAME_LENGTH].strip("-") or MIMIX_TAG
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise BadInput(
            f"{name!r} is not a name for deployments",
            where="--name",
            fix=f"Use at most {MAX_NAME_LENGTH} lower-case letters, digits and hyphens.",
        )
    return name


def check_owner(deployed: Iterable[DeployedFlow], name: str, owner: Owner) -> None:
    """Raise BadInput if deployments with this name belong to another library or workspace."""
    for one in deployed:
        if one.deployment.name == name and one.owner not in (None, owner):
            raise BadInput(
                f"the deployments named {name} on this server are of {one.owner}",
                where="mimix deploy",
                fix="Choose another name for this library with --name NAME, or replace them with "
                "--replace.",
            )


def other_names(deployed: Iterable[DeployedFlow], name: str, owner: Owner) -> list[str]:
    """Return the deployments of the same library and workspace under other names."""
    return [one.full_name for one in deployed if one.deployment.name != name and one.owner == owner]


def keep_settings_of_people(spec: dict[str, Any], deployed: DeployedFlow) -> None:
    """Change the specification of a deployment so that deploying it keeps what people set.

    These are its schedules, pause, concurrency limit, queue, additional tags and job variables, and
    whether its trigger is on. Parameters, description and code follow the specification.
    """
    current = deployed.deployment
    spec["paused"] = current.paused
    # Prefect leaves schedules alone that a specification does not mention.
    spec.pop("schedules", None)
    limit = current.global_concurrency_limit
    if limit is None:
        spec.pop("concurrency_limit", None)
    else:
        options = current.concurrency_options
        # Prefect's command refuses a limit with options of which one is missing.
        spec["concurrency_limit"] = (
            limit.limit
            if options is None
            else {"limit": limit.limit, **options.model_dump(mode="json", exclude_none=True)}
        )
    pool = spec["work_pool"]
    if current.work_pool_name == pool["name"] and current.work_queue_name:
        pool["work_queue_name"] = current.work_queue_name
    pool["job_variables"] = _merge(current.job_variables, pool["job_variables"])
    spec["tags"] = [*spec["tags"], *(tag for tag in current.tags if tag not in spec["tags"])]
    for trigger in spec.get("triggers", []):
        if deployed.trigger_enabled is not None:
            trigger["enabled"] = deployed.trigger_enabled


def describe_changes(
    spec: Mapping[str, Any], deployed: DeployedFlow, home: str
) -> Iterator[tuple[str, str, str]]:
    """Yield what deploying a specification changes, as setting, current value and new value."""
    current = deployed.deployment
    pairs: list[tuple[str, Any, Any]] = [
        ("parameters", current.parameters, spec["parameters"]),
        ("work pool", current.work_pool_name, spec["work_pool"]["name"]),
        ("queue", current.work_queue_name, spec["work_pool"]["work_queue_name"]),
        ("job variables", current.job_variables, spec["work_pool"]["job_variables"]),
        ("folder", _folder(current), home),
        ("description", current.description, spec["description"]),
        ("tags", sorted(current.tags), sorted(spec["tags"])),
    ]
    for name, before, after in pairs:
        yield from differences(name, before, after)


def describe_kept(deployed: DeployedFlow, defaults: Mapping[str, Any]) -> list[str]:
    """Return what people set on the server that differs from MiMix's specification."""
    current = deployed.deployment
    kept = []
    if current.paused:
        kept.append("paused")
    if deployed.trigger_enabled is False:
        kept.append("trigger off")
    active = {s["slug"]: s["active"] for s in defaults.get("schedules", [])}
    for schedule in current.schedules:
        if active.get(schedule.slug or "") != schedule.active:
            state = "on" if schedule.active else "off"
            kept.append(f"schedule {schedule.slug or schedule.schedule} {state}")
    limit = current.global_concurrency_limit
    if (None if limit is None else limit.limit) != defaults.get("concurrency_limit", {}).get(
        "limit"
    ):
        kept.append(f"concurrency limit {'none' if limit is None else limit.limit}")
    return kept


def differences(name: str, before: Any, after: Any) -> Iterator[tuple[str, str, str]]:
    """Yield each differing value of two nested structures, with its dotted name."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from differences(f"{name}.{key}", before.get(key), after.get(key))
    elif before != after:
        yield name, _short(before), _short(after)


def _folder(deployment: DeploymentResponse) -> str | None:
    for step in deployment.pull_steps or []:
        for values in step.values():
            if "directory" in values:
                return str(values["directory"])
    return None


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
