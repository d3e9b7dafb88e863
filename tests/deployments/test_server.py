"""``mimix deploy`` on a real Prefect server: once, again, and after a person has changed things."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import stranded_runs
from flows.deployment import (
    REPLACED_AUTOMATIONS,
    DeploymentTarget,
    build_job_template,
    create_work_pool,
    find_notification_block,
    install_automations,
)
from mimix_core.errors import BadInput
from mimix_core.inbox import PendingFile
from tasks.events import emit_episode_arrived
from tests.deployments.project_factory import write_episode, write_project
from tests.deployments.site import POOL, Site, site
from tests.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def server(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server on which ``mimix deploy`` has been called once."""
    settings = write_project(project)
    with site(tmp_path_factory.mktemp("site")) as made:
        made.deploy(settings)
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


FLOWS = {"curate", "inbox", "augment", "train", "generate", "benchmark", "mimix"}


def deployments(server: Site, name: str) -> dict[str, dict[str, Any]]:
    """The deployments with this name, by their flows."""
    flows = {flow["id"]: flow["name"] for flow in server.ask("POST", "/flows/filter", limit=50)}
    found = server.ask(
        "POST", "/deployments/filter", deployments={"name": {"any_": [name]}}, limit=50
    )
    return {flows[one["flow_id"]]: one for one in found}


def gpu_limit(server: Site) -> int | None:
    queues = server.ask("POST", f"/work_pools/{POOL}/queues/filter", limit=50)
    return {q["name"]: q["concurrency_limit"] for q in queues}["gpu"]  # type: ignore[no-any-return]


def test_pool_queue_deployments_and_automations_are_there(server: Site) -> None:
    deployed = deployments(server, "tiny")
    assert set(deployed) == FLOWS
    assert all(one["parameters"]["config"]["inbox"] for one in deployed.values())
    queues = server.ask("POST", f"/work_pools/{POOL}/queues/filter", limit=50)
    assert {q["name"]: q["concurrency_limit"] for q in queues} == {"default": None, "gpu": 1}
    assert set(automations(server)) == {
        "mimix-episode-arrived-tiny",
        "mimix-killed-run-again",
    }


def test_deploying_again_doubles_nothing_and_keeps_what_a_person_switched_off(
    server: Site, client: SyncPrefectClient
) -> None:
    name = "mimix-killed-run-again"
    assert set(install_automations(client, None).values()) == {"unchanged"}
    [one] = automations(server)[name]
    known = {k: v for k, v in one.items() if k not in ("id", "created", "updated")}
    earlier = known | {"description": "by an earlier version", "enabled": False}
    server.ask("PUT", f"/automations/{one['id']}", **earlier)
    server.ask("POST", "/automations/", **earlier)
    said: list[str] = []
    assert install_automations(client, None, said.append)[name] == "updated"
    assert [line.partition(":")[0] for line in said] == [f"automation {name}.description"]
    [kept] = automations(server)[name]
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


def test_twenty_files_at_once_ask_for_one_run(
    server: Site, client: SyncPrefectClient, project: Path
) -> None:
    files = [PendingFile("toons", Path(f"{n}.mp4"), f"{n:064d}", 1) for n in range(20)]
    assert emit_episode_arrived(files, project / "inbox")
    try:
        runs = server.wait_for_runs("inbox", 1)
    except AssertionError:
        # Prefect drops events while its SQLite is busy; `mimix watch` repeats them as well.
        assert emit_episode_arrived(files, project / "inbox")
        runs = server.wait_for_runs("inbox", 1)
    [run] = runs
    assert run["deployment_id"] == deployments(server, "tiny")["inbox"]["id"], "of this library"
    seen = server.ask(
        "POST", "/events/filter", filter={"event": {"name": ["mimix.episode.arrived"]}}, limit=50
    )
    assert len(seen["events"]) in (len(files), 2 * len(files))


def test_a_value_that_does_not_fit_is_refused_before_anything_starts(server: Site) -> None:
    deployment = server.ask("GET", "/deployments/name/train/tiny")
    wrong = deployment["parameters"]["config"] | {"lora": {"rank": 0}}
    path = f"/deployments/{deployment['id']}/create_flow_run"
    with pytest.raises(httpx.HTTPStatusError) as refused:
        server.ask("POST", path, parameters={"config": wrong})
    assert refused.value.response.status_code == 409
    assert "rank" in refused.value.response.text


def flow_run(server: Site, name: str) -> str:
    """A run of the deployment that no worker takes."""
    deployment = server.ask("GET", f"/deployments/name/{name}/tiny")["id"]
    return str(server.ask("POST", f"/deployments/{deployment}/create_flow_run", state=None)["id"])


def set_state(server: Site, run: str, kind: str, message: str) -> None:
    state = {"type": kind, "name": kind.capitalize(), "message": message}
    server.ask("POST", f"/flow_runs/{run}/set_state", state=state, force=True)


@pytest.mark.parametrize(
    ("message", "afterwards"),
    [
        ("Process exited with status code: -9 (killed)", "SCHEDULED"),
        ("Process exited with status code: 137. Out of memory", "SCHEDULED"),
        ("Flow run infrastructure exited with non-zero status code -9. Killed", "SCHEDULED"),
        ("No start within 180 s: the worker that took the run is gone", "SCHEDULED"),
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


def test_a_second_report_of_the_same_death_does_not_end_the_run(server: Site) -> None:
    """Prefect's runner reports a death, the run is scheduled again, then the worker reports it."""
    run = flow_run(server, "curate")
    set_state(server, run, "RUNNING", "")
    for text in (
        "Process exited with status",
        "Flow run infrastructure exited with non-zero status",
    ):
        set_state(server, run, "CRASHED", f"{text} code{':' * ('Process' in text)} -9. Killed")
        wait_for_state(server, run, "SCHEDULED", 30)


def test_a_run_that_its_worker_never_starts_is_taken_up_again(
    server: Site, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deaths at each of a worker's three steps."""
    monkeypatch.setattr(stranded_runs, "START_LIMIT", timedelta(seconds=10))
    runs = [flow_run(server, "train") for _ in range(3)]
    for run, name in zip(runs, ("Pending", "Submitting", "InfrastructurePending"), strict=True):
        state = {"type": "PENDING", "name": name}
        server.ask("POST", f"/flow_runs/{run}/set_state", state=state, force=True)
    sweeper = stranded_runs.Sweeper()
    sweeper.sweep(client)
    assert {server.state(run) for run in runs} == {"PENDING"}, "they have ten seconds"
    deadline = time.monotonic() + 120
    while {server.state(run) for run in runs} != {"SCHEDULED"}:
        assert time.monotonic() < deadline, [server.state(run) for run in runs]
        time.sleep(2)
        sweeper.sweep(client)


def test_automations_of_earlier_versions_are_deleted(
    server: Site, client: SyncPrefectClient
) -> None:
    [one] = automations(server)["mimix-killed-run-again"]
    known = {k: v for k, v in one.items() if k not in ("id", "created", "updated")}
    for name in REPLACED_AUTOMATIONS:
        server.ask("POST", "/automations/", **(known | {"name": name, "enabled": False}))
    said: list[str] = []
    done = install_automations(client, None, said.append)
    assert {done[name] for name in REPLACED_AUTOMATIONS} == {"deleted"}
    assert [line.split()[1] for line in said] == [f"{name}:" for name in REPLACED_AUTOMATIONS]
    assert set(automations(server)).isdisjoint(REPLACED_AUTOMATIONS)


def test_a_sweep_takes_up_runs_whose_events_were_lost(
    server: Site, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States as after a death that no automation has seen, with short limits."""
    monkeypatch.setattr(stranded_runs, "START_LIMIT", timedelta())
    monkeypatch.setattr(stranded_runs, "HEARTBEAT_LIMIT", timedelta(seconds=8))
    names = ("killed", "failed", "pending", "silent", "alive", "waiting", "cancelled")
    runs = {name: flow_run(server, "augment") for name in names}
    with switched_off(server, "mimix-killed-run-again"):
        set_state(server, runs["killed"], "CRASHED", "Process exited with status code: -9")
        set_state(server, runs["failed"], "CRASHED", "Flow run could not start: no such folder")
        set_state(server, runs["pending"], "PENDING", "")
        set_state(server, runs["silent"], "RUNNING", "")
        set_state(server, runs["alive"], "RUNNING", "")
        set_state(server, runs["waiting"], "PAUSED", "")
        set_state(server, runs["cancelled"], "CANCELLING", "")
        again = ("SCHEDULED", "AwaitingRetry")
        expected = {
            "killed": again,
            "failed": ("CRASHED", "Crashed"),
            "pending": again,
            "silent": again,
            "alive": ("RUNNING", "Running"),
            "waiting": ("PAUSED", "Paused"),
            "cancelled": ("CANCELLED", "Cancelled"),
        }
        sweeper, found = stranded_runs.Sweeper(), {}
        deadline = time.monotonic() + 90
        while found != expected and time.monotonic() < deadline:
            heartbeat(client, runs["alive"])
            sweeper.sweep(client, grace=timedelta())
            time.sleep(1)
            for name, run in runs.items():
                state = server.ask("GET", f"/flow_runs/{run}")["state"]
                found[name] = (state["type"], state["name"])
    assert found == expected


@contextmanager
def switched_off(server: Site, name: str) -> Iterator[None]:
    """Switch an automation off in this context."""
    [automation] = automations(server)[name]
    path = f"/automations/{automation['id']}"
    server.ask("PATCH", path, enabled=False)
    try:
        yield
    finally:
        server.ask("PATCH", path, enabled=True)


def heartbeat(client: SyncPrefectClient, run: str) -> None:
    """Send the event that the process of a run sends every 30 s, and wait until it is stored."""
    event = Event(
        event="prefect.flow-run.heartbeat",
        resource={"prefect.resource.id": f"prefect.flow-run.{run}"},
    )
    client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
    asked = {"filter": {"id": {"id": [str(event.id)]}}}
    deadline = time.monotonic() + 20
    while not client.request("POST", "/events/filter", json=asked).json()["events"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def wait_for_state(server: Site, run: str, kind: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while server.state(run) != kind:
        assert time.monotonic() < deadline, server.ask("GET", f"/flow_runs/{run}")["state"]
        time.sleep(0.5)


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
        assert not emit_episode_arrived([PendingFile("toons", Path("a.mp4"), f"{1:064d}", 1)], None)


def test_watching_survives_a_library_that_is_being_saved(
    server: Site, tmp_path: Path, project: Path
) -> None:
    settings = write_project(tmp_path / "watched")
    library = tmp_path / "watched" / "library.yaml"
    whole = library.read_text()
    settings.write_text(settings.read_text() + "inbox_settle_seconds: 0.1\n")
    log = tmp_path / "watch.log"
    with log.open("wb") as out:
        watching = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "watch", str(settings), "--every", "1"],
            cwd=ROOT,
            env=server.environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def wait_for(words: str) -> None:
        deadline = time.monotonic() + 60
        while words not in log.read_text():
            assert time.monotonic() < deadline and watching.poll() is None, log.read_text()
            time.sleep(0.2)

    try:
        film = project / "toons" / "first.mp4"
        shutil.copy(film, tmp_path / "watched" / "inbox" / "toons" / "known.mp4")
        library.write_text(whole[: whole.index("style: realistic")] + "style: [")
        wait_for("not readable as YAML")
        library.unlink()
        wait_for("no such file")
        library.write_text(whole)
        new = tmp_path / "watched" / "inbox" / "toons" / "new.mp4"
        write_episode(new, 24 * 6 + 40)
        wait_for("toons/new.mp4 is complete")
    finally:
        watching.terminate()
    assert watching.wait(20) != 0
    assert log.read_text().count("not readable as YAML") == 1, "said once, not every second"


def test_two_libraries_have_deployments_of_their_own_and_settings_of_people_stay(
    server: Site, project: Path, tmp_path: Path
) -> None:
    before = deployments(server, "tiny")
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
    [trigger] = automations(server)["mimix-episode-arrived-tiny"]
    server.ask("PATCH", f"/automations/{trigger['id']}", enabled=False)
    queues = server.ask("POST", f"/work_pools/{POOL}/queues/filter", limit=50)
    [gpu] = [queue for queue in queues if queue["name"] == "gpu"]
    server.ask("PATCH", f"/work_pools/{POOL}/queues/gpu", concurrency_limit=4)
    assert gpu["concurrency_limit"] == 1

    # A second library: nothing of the first changes.
    other = write_project(tmp_path / "Other Show")
    said = server.command("flows.cli", "deploy", str(other))
    assert "deployment train/other-show" in said
    second = deployments(server, "other-show")
    assert set(second) == FLOWS
    for flow in FLOWS:
        assert second[flow]["parameters"]["config"]["library"].startswith(str(tmp_path))
        assert deployments(server, "tiny")[flow]["parameters"] == before[flow]["parameters"]
    assert gpu_limit(server) == 4
    assert [s["active"] for s in second["inbox"]["schedules"]] == [False]
    assert automations(server)["mimix-episode-arrived-other-show"][0]["enabled"]

    # A third one of the same name is refused, and changes nothing.
    same_name = tmp_path / "copy"
    write_project(same_name)
    with pytest.raises(AssertionError, match=r"--name NAME.*--replace"):
        server.command("flows.cli", "deploy", str(same_name / "mimix.yaml"), "--name", "tiny")
    assert deployments(server, "tiny")["train"]["parameters"] == before["train"]["parameters"]

    # The first one again, with other settings: it says what changes and keeps the rest.
    settings = project / "mimix.yaml"
    text = settings.read_text()
    settings.write_text(text.replace("rank: 4", "rank: 2"))
    planned = server.command(
        "flows.cli", "deploy", str(settings), "--name", "tiny", "--gpus", "2", "--dry-run"
    )
    assert "Nothing was changed" in planned
    assert deployments(server, "tiny")["train"]["parameters"] == before["train"]["parameters"]
    said = server.command("flows.cli", "deploy", str(settings), "--name", "tiny", "--gpus", "2")
    settings.write_text(text)
    for line in (
        "train/tiny: parameters.config.lora.rank: 4 -> 2",
        "curate/tiny: stays as it was set: paused",
        "queue gpu: limit 4 -> 2",
    ):
        assert line in said and line in planned
        assert said.index(line) < said.index("deployment train/tiny\n"), "before it is done"
    after = deployments(server, "tiny")
    assert after["train"]["parameters"]["config"]["lora"]["rank"] == 2
    assert after["curate"]["paused"] and not after["augment"]["paused"]
    crons = {s["schedule"]["cron"]: s["active"] for s in after["inbox"]["schedules"]}
    assert crons == {"*/15 * * * *": True, "0 3 * * *": True}
    assert after["inbox"]["global_concurrency_limit"]["limit"] == 3
    assert "night" in after["train"]["tags"]
    assert not automations(server)["mimix-episode-arrived-tiny"][0]["enabled"]
    assert gpu_limit(server) == 2
