"""Runs as a worker starts them, while the server or the worker is gone."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mimix_core.settings import Config, load_config
from tests.deployments.project_factory import write_project
from tests.deployments.site import Site, marked, rows, site
from tests.e2e.demo import ROOT

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_config(write_project(tmp_path_factory.mktemp("project"), epochs=100_000))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, config: Config) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site")) as made:
        made.deploy(config.library.parent / "mimix.yaml")
        yield made


@pytest.fixture
def execute(server: Site, tmp_path: Path) -> Iterator[Callable[[str, str], str]]:
    """Execute a run by its deployment's command, without a worker; return the processes' mark."""
    started: list[subprocess.Popen[bytes]] = []
    mark = f"MIMIX_WORKER={tmp_path}"

    def start(name: str, run: str, before: Callable[[], None] = lambda: None) -> str:
        deployment = server.ask("GET", f"/deployments/name/{name}/{server.library}")
        variables = deployment["job_variables"]
        before()
        reader, writer = os.pipe()
        os.close(reader)  # as after the death of a worker: nobody reads the output
        started.append(
            subprocess.Popen(
                shlex.split(variables["command"]),
                cwd=ROOT,
                env={
                    **server.environment,
                    **variables["env"],
                    "MIMIX_WORKER": str(tmp_path),
                    "PREFECT__FLOW_RUN_ID": run,
                },
                stdout=writer,
                stderr=writer,
            )
        )
        os.close(writer)
        return mark

    yield start
    for process in started:
        process.kill()
        process.wait()


def flow_run(server: Site, name: str) -> str:
    deployment = server.ask("GET", f"/deployments/name/{name}/{server.library}")["id"]
    made = server.ask("POST", f"/deployments/{deployment}/create_flow_run", state=None)
    return str(made["id"])


def test_a_run_that_starts_during_an_outage_waits_for_the_server(
    server: Site, config: Config, execute: Callable[..., str]
) -> None:
    run = flow_run(server, "curate")
    mark = execute("curate", run, server.kill_server)
    time.sleep(15)
    assert marked(mark), "it has not ended"
    server.start_server()
    server.wait_for(run, "COMPLETED", seconds=300)
    assert len(rows(config, "captions")) == 3


def test_a_run_without_a_worker_can_be_cancelled(server: Site, execute: Callable[..., str]) -> None:
    run = flow_run(server, "train")
    mark = execute("train", run)
    deadline = time.monotonic() + 300
    while not any("mimix_core.training" in words for words in marked(mark).values()):
        assert time.monotonic() < deadline, marked(mark)
        time.sleep(0.5)
    server.ask("POST", f"/flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    asked = time.monotonic()
    while marked(mark):
        assert time.monotonic() - asked < 30, marked(mark)
        time.sleep(0.2)
    server.wait_for(run, "CANCELLED", seconds=5)
