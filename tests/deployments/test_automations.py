"""Automations on a real Prefect server: runs for new files, killed runs again, word of failures."""

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

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import stranded_runs
from flows.deployment import find_notification_block, install_automations
from mimix_core.errors import BadInput
from mimix_core.inbox import PendingFile
from tasks.events import emit_episode_arrived
from tests.deployments.project_factory import write_episode, write_project
from tests.deployments.site import Site
from tests.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


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
    assert run["deployment_id"] == server.deployments("tiny")["inbox"]["id"], "of this library"
    seen = server.ask(
        "POST", "/events/filter", filter={"event": {"name": ["mimix.episode.arrived"]}}, limit=50
    )
    assert len(seen["events"]) in (len(files), 2 * len(files))


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
    [automation] = server.automations()[name]
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
