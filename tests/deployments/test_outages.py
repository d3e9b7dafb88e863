"""The server goes away while a run is at work: killed and started again, as in an upgrade."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_RESULTS_LOCAL_STORAGE_PATH,
    temporary_settings,
)

import tasks.base
from flows.session import flow_session
from mimix_core.settings import Config, load_config
from tasks.base import stage_task
from tests.deployments.project_factory import write_project
from tests.deployments.site import Site, site
from tests.tasks.fake_stage import STAGE, FakeInputs, FakeSettings

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

fake_task = stage_task(STAGE.name, retry_delay_seconds=0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(write_project(tmp_path / "project"))


def test_a_run_outlives_an_outage_and_reports_when_the_server_is_back(
    server: Site, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is killed during a unit and comes back after the last one has ended."""
    monkeypatch.setattr(tasks.base, "PROGRESS_SECONDS", 0.1)
    run_log, ended = tmp_path / "run_log", threading.Event()
    inputs = [FakeInputs(behavior="report for 6 s", run_log=str(run_log))]

    @flow(name="outage")
    def outage() -> str:
        with flow_session(config, "curate") as run:
            run.run_units(fake_task, inputs, FakeSettings())
            ended.set()
        return "reported"

    def server_fails() -> None:
        while not run_log.exists():
            time.sleep(0.05)
        time.sleep(1)
        server.kill_server()
        assert ended.wait(60)
        time.sleep(4)
        server.start_server()

    failing = threading.Thread(target=server_fails)
    failing.start()
    limits = {
        PREFECT_API_URL: server.url,
        PREFECT_CLIENT_MAX_RETRIES: 1,
        PREFECT_RESULTS_LOCAL_STORAGE_PATH: tmp_path / "results",
    }
    with temporary_settings(limits):
        assert outage() == "reported"
    failing.join()
    [run] = server.ask("POST", "/flow_runs/filter", flows={"name": {"any_": ["outage"]}})
    assert run["state"]["type"] == "COMPLETED"
    assert len(run_log.read_text().splitlines()) == 1, "no work was done twice"
    own = {"flow_run_id": {"any_": [run["id"]]}}
    shown = server.ask("POST", "/artifacts/filter", artifacts=own)
    assert "mimix-curate-summary" in {one["key"] for one in shown}
