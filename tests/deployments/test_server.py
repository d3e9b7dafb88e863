"""``mimix deploy`` on a real Prefect server: once, again, and after a person has changed things."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.deployment import (
    DeploymentTarget,
    build_job_template,
    create_work_pool,
    find_notification_block,
    install_automations,
    read_schedule_states,
)
from mimix_core.errors import BadInput
from mimix_core.inbox import PendingFile
from tasks.events import emit_episode_arrived
from tests.deployments.project_factory import write_project
from tests.deployments.site import POOL, Site, site

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server on which ``mimix deploy`` has been called once."""
    settings = write_project(tmp_path_factory.mktemp("project"))
    with site(tmp_path_factory.mktemp("site")) as made:
        made.command("flows.cli", "deploy", str(settings))
        yield made


@pytest.fixture
def client(server: Site) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: server.url}), SyncPrefectClient(server.url) as made:
        yield made


def automations(server: Site) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in server.ask("POST", "/automations/filter", sort="CREATED_DESC"):
        found.setdefault(one["name"], []).append(one)
    return found


def test_pool_queue_deployments_and_automations_are_there(server: Site) -> None:
    deployments = server.ask("POST", "/deployments/filter", limit=50)
    assert {one["name"] for one in deployments} == {
        *("curate", "inbox", "augment", "train", "generate", "benchmark", "mimix")
    }
    assert all(one["parameters"]["config"]["inbox"] for one in deployments)
    queues = server.ask("POST", f"/work_pools/{POOL}/queues/filter", limit=50)
    assert {q["name"]: q["concurrency_limit"] for q in queues} == {"default": None, "gpu": 1}
    assert set(automations(server)) == {
        *("mimix-episode-arrived", "mimix-silent-run-crashed", "mimix-killed-run-again")
    }


def test_deploying_again_doubles_nothing_and_keeps_what_a_person_switched_off(
    server: Site, client: SyncPrefectClient
) -> None:
    name = "mimix-silent-run-crashed"
    assert set(install_automations(client, None).values()) == {"unchanged"}
    [one] = automations(server)[name]
    known = {k: v for k, v in one.items() if k not in ("id", "created", "updated")}
    earlier = known | {"description": "by an earlier version", "enabled": False}
    server.ask("PUT", f"/automations/{one['id']}", **earlier)
    server.ask("POST", "/automations/", **earlier)
    assert install_automations(client, None)[name] == "updated"
    [kept] = automations(server)[name]
    assert not kept["enabled"]
    assert kept["description"] == one["description"]
    assert set(install_automations(client, None).values()) == {"unchanged"}
    assert not create_work_pool(client, DeploymentTarget(POOL, "process", 1, Path()))
    with pytest.raises(BadInput, match="is of type process"):
        create_work_pool(client, DeploymentTarget(POOL, "docker", 1, Path()))
    assert read_schedule_states(client) == {"inbox/look-into-the-inbox": False}


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


def test_twenty_files_at_once_ask_for_one_run(server: Site, client: SyncPrefectClient) -> None:
    files = [PendingFile("toons", Path(f"{n}.mp4"), f"{n:064d}", 1) for n in range(20)]
    assert emit_episode_arrived(files)
    run = server.wait_for_runs("inbox", 1)
    assert len(run) == 1
    seen = server.ask(
        "POST", "/events/filter", filter={"event": {"name": ["mimix.episode.arrived"]}}, limit=50
    )
    assert len(seen["events"]) == len(files)


def test_a_value_that_does_not_fit_is_refused_before_anything_starts(server: Site) -> None:
    deployment = server.ask("GET", "/deployments/name/train/train")
    wrong = deployment["parameters"]["config"] | {"lora": {"rank": 0}}
    path = f"/deployments/{deployment['id']}/create_flow_run"
    with pytest.raises(httpx.HTTPStatusError) as refused:
        server.ask("POST", path, parameters={"config": wrong})
    assert refused.value.response.status_code == 409
    assert "rank" in refused.value.response.text


def flow_run(server: Site, name: str) -> str:
    """A run of the deployment that no worker takes."""
    deployment = server.ask("GET", f"/deployments/name/{name}/{name}")["id"]
    return str(server.ask("POST", f"/deployments/{deployment}/create_flow_run", state=None)["id"])


def set_state(server: Site, run: str, kind: str, message: str) -> None:
    state = {"type": kind, "name": kind.capitalize(), "message": message}
    server.ask("POST", f"/flow_runs/{run}/set_state", state=state, force=True)


@pytest.mark.parametrize(
    ("message", "afterwards"),
    [
        ("Process exited with status code: -9 (killed)", "SCHEDULED"),
        ("No heartbeat for 90 s: the process of the run is gone", "SCHEDULED"),
        ("Flow run could not start: no such folder", "CRASHED"),
    ],
)
def test_only_a_run_that_was_killed_is_taken_up_again(
    server: Site, message: str, afterwards: str
) -> None:
    run = flow_run(server, "curate")
    set_state(server, run, "RUNNING", "")
    set_state(server, run, "CRASHED", message)
    deadline = time.monotonic() + (30 if afterwards == "SCHEDULED" else 8)
    while time.monotonic() < deadline and server.state(run) == "CRASHED":
        time.sleep(0.5)
    found = server.ask("GET", f"/flow_runs/{run}")["state"]
    assert found["type"] == afterwards
    if afterwards == "SCHEDULED":
        assert found["name"] == "AwaitingRetry"


def test_a_block_is_told_of_a_run_that_failed(server: Site, client: SyncPrefectClient) -> None:
    heard: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Nothing on the console."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        CustomWebhookNotificationBlock(
            name="mimix",
            url=f"http://127.0.0.1:{listening.server_port}/",
            method="POST",
            json_data={"text": "{{subject}}: {{body}}"},
        ).save("ops")
        block = find_notification_block(client, "custom-webhook/ops")
        assert install_automations(client, block)["mimix-run-ended-badly"] == "created"
        assert install_automations(client, block)["mimix-run-ended-badly"] == "unchanged"
        set_state(server, flow_run(server, "curate"), "FAILED", "the cat was not located")
        deadline = time.monotonic() + 30
        while not heard and time.monotonic() < deadline:
            time.sleep(0.2)
        listening.shutdown()
    assert "MiMix curate: Failed" in heard[0]
    assert "the cat was not located" in heard[0]
    with pytest.raises(BadInput, match="no block slack-webhook/ops"):
        find_notification_block(client, "slack-webhook/ops")


def test_a_server_that_does_not_answer_is_noticed() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert not emit_episode_arrived([PendingFile("toons", Path("a.mp4"), f"{1:064d}", 1)])
