"""``mimix deploy`` on a real Prefect server: once, again, and after a person has changed things."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient

from flows.deployment import (
    REPLACED_AUTOMATIONS,
    DeploymentTarget,
    build_job_template,
    create_work_pool,
    install_automations,
)
from mimix_core.errors import BadInput
from tests.deployments.project_factory import write_project
from tests.deployments.site import POOL, Site

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

FLOWS = {"curate", "inbox", "augment", "train", "generate", "benchmark", "mimix"}


def gpu_limit(server: Site) -> int | None:
    queues = server.ask("POST", f"/work_pools/{POOL}/queues/filter", limit=50)
    return {q["name"]: q["concurrency_limit"] for q in queues}["gpu"]  # type: ignore[no-any-return]


def test_pool_queue_deployments_and_automations_are_there(server: Site) -> None:
    deployed = server.deployments("tiny")
    assert set(deployed) == FLOWS
    assert all(one["parameters"]["config"]["inbox"] for one in deployed.values())
    queues = server.ask("POST", f"/work_pools/{POOL}/queues/filter", limit=50)
    assert {q["name"]: q["concurrency_limit"] for q in queues} == {"default": None, "gpu": 1}
    assert set(server.automations()) == {
        "mimix-episode-arrived-tiny",
        "mimix-killed-run-again",
    }


def test_deploying_again_doubles_nothing_and_keeps_what_a_person_switched_off(
    server: Site, client: SyncPrefectClient
) -> None:
    name = "mimix-killed-run-again"
    assert set(install_automations(client, None).values()) == {"unchanged"}
    [one] = server.automations()[name]
    known = {k: v for k, v in one.items() if k not in ("id", "created", "updated")}
    earlier = known | {"description": "by an earlier version", "enabled": False}
    server.ask("PUT", f"/automations/{one['id']}", **earlier)
    server.ask("POST", "/automations/", **earlier)
    said: list[str] = []
    assert install_automations(client, None, said.append)[name] == "updated"
    assert [line.partition(":")[0] for line in said] == [f"automation {name}.description"]
    [kept] = server.automations()[name]
    assert not kept["enabled"]
    assert kept["description"] == one["description"]
    server.ask("PATCH", f"/automations/{kept['id']}", enabled=True)
    assert set(install_automations(client, None).values()) == {"unchanged"}
    assert not create_work_pool(client, DeploymentTarget(POOL, "process", Path()))
    with pytest.raises(BadInput, match="is of type process"):
        create_work_pool(client, DeploymentTarget(POOL, "docker", Path()))


def test_job_templates_of_containers_bring_image_and_workspace(client: SyncPrefectClient) -> None:
    docker = build_job_template("docker")["variables"]["properties"]
    assert docker["volumes"]["default"] == ["/srv/mimix:/srv/mimix"]
    kubernetes = build_job_template("kubernetes")
    pod = kubernetes["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["volumeMounts"][0]["name"] == pod["volumes"][0]["name"]
    assert container["image"] == "{{ image }}"
    assert docker["image"]["default"].startswith("mimix:")
    with pytest.raises(BadInput, match="no work pool of type"):
        build_job_template("cloud")


def test_a_value_that_does_not_fit_is_refused_before_anything_starts(server: Site) -> None:
    deployment = server.ask("GET", "/deployments/name/train/tiny")
    wrong = deployment["parameters"]["config"] | {"lora": {"rank": 0}}
    path = f"/deployments/{deployment['id']}/create_flow_run"
    with pytest.raises(httpx.HTTPStatusError) as refused:
        server.ask("POST", path, parameters={"config": wrong})
    assert refused.value.response.status_code == 409
    assert "rank" in refused.value.response.text


def test_automations_of_earlier_versions_are_deleted(
    server: Site, client: SyncPrefectClient
) -> None:
    [one] = server.automations()["mimix-killed-run-again"]
    known = {k: v for k, v in one.items() if k not in ("id", "created", "updated")}
    for name in REPLACED_AUTOMATIONS:
        server.ask("POST", "/automations/", **(known | {"name": name, "enabled": False}))
    said: list[str] = []
    done = install_automations(client, None, said.append)
    assert {done[name] for name in REPLACED_AUTOMATIONS} == {"deleted"}
    assert [line.split()[1] for line in said] == [f"{name}:" for name in REPLACED_AUTOMATIONS]
    assert set(server.automations()).isdisjoint(REPLACED_AUTOMATIONS)


def test_two_libraries_have_deployments_of_their_own_and_settings_of_people_stay(
    server: Site, project: Path, tmp_path: Path
) -> None:
    before = server.deployments("tiny")
    # What a person sets in the UI.
    inbox = before["inbox"]
    [schedule] = inbox["schedules"]
    path = f"/deployments/{inbox['id']}"
    server.ask("PATCH", f"{path}/schedules/{schedule['id']}", active=True)
    added = [{"schedule": {"cron": "0 3 * * *"}, "active": True}]
    httpx.post(f"{server.url}{path}/schedules", json=added).raise_for_status()
    server.ask("PATCH", path, concurrency_limit=3)
    server.ask("PATCH", f"/deployments/{before['curate']['id']}", paused=True)
    server.ask("PATCH", f"/deployments/{before['train']['id']}", tags=["mimix", "night"])
    [trigger] = server.automations()["mimix-episode-arrived-tiny"]
    server.ask("PATCH", f"/automations/{trigger['id']}", enabled=False)
    queues = server.ask("POST", f"/work_pools/{POOL}/queues/filter", limit=50)
    [gpu] = [queue for queue in queues if queue["name"] == "gpu"]
    server.ask("PATCH", f"/work_pools/{POOL}/queues/gpu", concurrency_limit=4)
    assert gpu["concurrency_limit"] == 1

    # A second library: nothing of the first changes.
    other = write_project(tmp_path / "Other Show")
    said = server.command("flows.cli", "deploy", str(other))
    assert "deployment train/other-show" in said
    second = server.deployments("other-show")
    assert set(second) == FLOWS
    for flow in FLOWS:
        assert second[flow]["parameters"]["config"]["library"].startswith(str(tmp_path))
        assert server.deployments("tiny")[flow]["parameters"] == before[flow]["parameters"]
    assert gpu_limit(server) == 4
    assert [s["active"] for s in second["inbox"]["schedules"]] == [False]
    assert server.automations()["mimix-episode-arrived-other-show"][0]["enabled"]

    # A third one of the same name is refused, and changes nothing.
    same_name = tmp_path / "copy"
    write_project(same_name)
    with pytest.raises(AssertionError, match=r"--name NAME.*--replace"):
        server.command("flows.cli", "deploy", str(same_name / "mimix.yaml"), "--name", "tiny")
    assert server.deployments("tiny")["train"]["parameters"] == before["train"]["parameters"]

    # The first one again, with other settings: it says what changes and keeps the rest.
    settings = project / "mimix.yaml"
    text = settings.read_text()
    settings.write_text(text.replace("rank: 4", "rank: 2"))
    planned = server.command(
        "flows.cli", "deploy", str(settings), "--name", "tiny", "--gpus", "2", "--dry-run"
    )
    assert "Nothing was changed" in planned
    assert server.deployments("tiny")["train"]["parameters"] == before["train"]["parameters"]
    said = server.command("flows.cli", "deploy", str(settings), "--name", "tiny", "--gpus", "2")
    settings.write_text(text)
    for line in (
        "train/tiny: parameters.config.lora.rank: 4 -> 2",
        "curate/tiny: stays as it was set: paused",
        "queue gpu: limit 4 -> 2",
    ):
        assert line in said and line in planned
        assert said.index(line) < said.index("deployment train/tiny\n"), "before it is done"
    after = server.deployments("tiny")
    assert after["train"]["parameters"]["config"]["lora"]["rank"] == 2
    assert after["curate"]["paused"] and not after["augment"]["paused"]
    crons = {s["schedule"]["cron"]: s["active"] for s in after["inbox"]["schedules"]}
    assert crons == {"*/15 * * * *": True, "0 3 * * *": True}
    assert after["inbox"]["global_concurrency_limit"]["limit"] == 3
    assert "night" in after["train"]["tags"]
    assert not server.automations()["mimix-episode-arrived-tiny"][0]["enabled"]
    assert gpu_limit(server) == 2
