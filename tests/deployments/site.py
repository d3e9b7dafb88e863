"""A Prefect server with its workers, set up as a user does, for tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mimix_core.engine.store import Store
from mimix_core.settings import Config
from mimix_core.tables import Row, read
from tests.e2e.demo import ROOT, wait_for_server

POOL = "mimix-process"
START = f"-m prefect worker start --pool {POOL}"
PROCESS_WORKER = f"-m flows.process_worker --pool {POOL}"
MIMIX_WORKER = f"-m flows.cli worker --pool {POOL}"
ATTEMPTS = 20
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class Site:
    """A server with a separate database below ``folder``. Commands run as a user's would."""

    folder: Path
    url: str
    library: str = ""
    """Name of the deployments of ``mimix deploy``; empty for those of the plain prefect.yaml."""
    stack: ExitStack = field(default_factory=ExitStack)
    server: subprocess.Popen[bytes] | None = None

    def start_server(self) -> None:
        """Start the server, at first or after ``kill_server``, and wait until it answers."""
        log = self.folder / "server.log"
        with log.open("ab") as out:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "prefect", "server", "start"],
                env={
                    **self.environment,
                    "PREFECT_SERVER_API_HOST": "127.0.0.1",
                    "PREFECT_SERVER_API_PORT": self.url.rsplit(":", 1)[1].split("/")[0],
                    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                },
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for_server(self.url, self.server, log)

    def kill_server(self) -> None:
        """Kill the server with SIGKILL; its database stays."""
        if self.server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()
            self.server = None

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        return {
            **kept,
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_API_URL": self.url,
            "MIMIX_HOME": str(ROOT),
            "DO_NOT_TRACK": "1",
            "COLUMNS": "200",
        }

    def deploy(self, settings: Path, *words: str) -> str:
        """Run ``mimix deploy`` for a project, whose deployments tests then use."""
        said = self.command("flows.cli", "deploy", str(settings), "--name", "tiny", *words)
        self.library = "tiny"
        return said

    def command(self, *words: str) -> str:
        """Run ``python -m`` with these arguments; return its output."""
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """Send a request to the server's API; retry while its SQLite is locked (503).

        So do Prefect's own clients. What only reads is also asked again after an error of the
        server's own (500), which a busy one answers when it has no connection to its database left.
        """
        busy = {httpx.codes.SERVICE_UNAVAILABLE}
        if method == "GET":
            busy.add(httpx.codes.INTERNAL_SERVER_ERROR)
        for _ in range(ATTEMPTS):
            reply = httpx.request(method, self.url + path, json=body or None, timeout=180)
            if reply.status_code not in busy:
                break
            time.sleep(1)
        if reply.is_error:
            print(f"{method} {path}: {reply.status_code} {reply.text[:1000]}")
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def automations(self) -> dict[str, list[dict[str, Any]]]:
        """All automations by their names, the newest first."""
        found: dict[str, list[dict[str, Any]]] = {}
        for one in self.ask("POST", "/automations/filter", sort="CREATED_DESC"):
            found.setdefault(one["name"], []).append(one)
        return found

    def deployments(self, name: str) -> dict[str, dict[str, Any]]:
        """The deployments with this name, by their flows."""
        flows = {flow["id"]: flow["name"] for flow in self.ask("POST", "/flows/filter", limit=50)}
        found = self.ask(
            "POST", "/deployments/filter", deployments={"name": {"any_": [name]}}, limit=50
        )
        return {flows[one["flow_id"]]: one for one in found}

    def start(self, name: str, config: Config | None = None) -> str:
        """Run a flow's deployment as a user does; return the id of the flow run."""
        words = ["prefect", "deployment", "run", f"{name}/{self.library or name}"]
        if config is not None:
            words += ["--params", json.dumps({"config": config.model_dump(mode="json")})]
        printed = self.command(*words)
        return next(line.split()[-1] for line in printed.splitlines() if "UUID:" in line)

    def runs(self, name: str) -> list[dict[str, Any]]:
        """All runs of a flow, the newest first."""
        found = self.ask(
            "POST",
            "/flow_runs/filter",
            flows={"name": {"any_": [name]}},
            sort="START_TIME_DESC",
        )
        return list(found)

    def wait_for_runs(self, name: str, number: int, seconds: float = 60) -> list[dict[str, Any]]:
        """Wait until the deployment has that many runs, and some time more; return all runs."""
        deadline = time.monotonic() + seconds
        while len(self.runs(name)) < number:
            assert time.monotonic() < deadline, f"{len(self.runs(name))} runs of {name}"
            time.sleep(0.5)
        time.sleep(3)
        return self.runs(name)

    def state(self, run: str) -> str:
        return str(self.ask("GET", f"/flow_runs/{run}")["state"]["type"])

    def wait_for(self, run: str, *states: str, seconds: float = 240) -> str:
        """Wait until the run is in one of the states; another final state is an error."""
        deadline = time.monotonic() + seconds
        while (now := self.state(run)) not in states:
            assert now not in FINAL and time.monotonic() < deadline, (
                f"{now}: {self.ask('GET', f'/flow_runs/{run}')['state']['message']}\n{self.logs()}"
            )
            time.sleep(0.5)
        return now

    def logs(self) -> str:
        """The ends of the workers' logs."""
        return "\n".join(log.read_text()[-3000:] for log in self.folder.glob("worker-*.log"))

    def worker(self, name: str, *words: str, command: str = "") -> Worker:
        """Start a worker, by default Prefect's own; it ends with the site."""
        command = command or f"{START} --name {name}"
        log = self.folder / f"worker-{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, *command.split(), *words],
                cwd=ROOT,
                env={**self.environment, "MIMIX_WORKER": f"{self.folder}/{name}"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        worker = Worker(process, log, f"MIMIX_WORKER={self.folder}/{name}")
        self.stack.callback(worker.end)
        return worker


@dataclass
class Worker:
    """A worker's process. ``mark`` is in the environment of all processes that it starts."""

    process: subprocess.Popen[bytes]
    log: Path
    mark: str

    def descendants(self) -> dict[int, str]:
        """Return the command line of each descendant of the worker."""
        return {pid: w for pid, w in marked(self.mark).items() if pid != self.process.pid}

    def took(self) -> int:
        """Return how many runs it has started so far."""
        return self.log.read_text().count("submitted to infrastructure")

    def end(self) -> None:
        """Terminate it and all processes that it started."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        for pid in self.descendants():
            os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> dict[int, str]:
    """Return the command lines of live processes with ``mark`` (NAME=value) in its environment."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # gone a moment ago
        if mark.encode() in environment and words:
            found[int(entry.name)] = words
    return found


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """A running server with its UI, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "home").mkdir(parents=True)
    made = Site(folder, f"http://127.0.0.1:{port}/api")
    try:
        made.start_server()
        with made.stack:
            yield made
    finally:
        made.kill_server()


def rows(config: Config, stage: str) -> list[Row]:
    """Return all rows of a stage in the workspace's store."""
    from mimix_core.engine import registry

    store = Store(config.workspace / "store")
    return [
        row
        for record in store.records()
        if record.stage == stage
        for row in read(
            store.folder(stage, record.key) / store.TABLE, registry.get_stage(stage).table
        )
    ]
