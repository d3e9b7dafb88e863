"""The live page on a real Prefect server: start a training, watch it, cancel it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.deployments.browser import browsing, chromium
from tests.deployments.project_factory import write_project
from tests.deployments.site import Site, site
from tests.paths import ROOT
from tests.studio.page_hand import DESKTOP, PHONE, Hand

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(chromium() is None, reason="needs a browser: apt-get install chromium"),
]


@contextmanager
def studio(server: Site, settings: Path) -> Iterator[str]:
    """``mimix studio`` as a user starts it; yield its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "studio", str(settings), "--port", "0"],
        cwd=ROOT,
        env=server.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        yield words[-1]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def test_a_training_is_started_watched_and_cancelled_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    settings = write_project(tmp_path / "project", epochs=4000)
    with site(tmp_path / "site") as server:
        server.deploy(settings)
        foreign = deploy_another_library(server)
        server.worker("one")
        with studio(server, settings) as address, browsing(tmp_path) as tab:
            hand = Hand(tab)
            hand.size(DESKTOP)
            hand.open(f"{address}live")
            hand.click("button[data-flow=train]")
            hand.click("dialog[open] .approve")
            hand.until("document.querySelector('.state.scheduled, .state.pending, .state.running')")
            [run] = server.runs("train")
            assert run["deployment_id"] == deployment_of(server, "train", "tiny")
            page = hand.tab.value("document.querySelector('.runs a').href")
            assert page == f"{server.url.removesuffix('/api')}/runs/flow-run/{run['id']}"
            # Its stages come and go, with what the training says of itself.
            hand.until("document.querySelector('#progress .stage-line.now')", 180)
            hand.until(
                "[...document.querySelectorAll('#progress .stage-line.now')]"
                ".some((line) => /^lora/.test(line.textContent) && /left/.test(line.textContent))",
                240,
            )
            hand.until("document.querySelector('.training .curve .train')?.getAttribute('d')", 60)
            link = hand.tab.value("document.querySelector('#progress .card a').href")
            assert link == page
            head = "document.querySelector('.training header').textContent"
            step = f"Number({head}.match(/step (\\d+)/)[1])"
            before = hand.tab.value(step)
            hand.until(f"{step} > {before}")
            hand.size(PHONE)
            assert hand.tab.value("document.documentElement.scrollWidth") <= 390
            hand.click(f"[data-run='{run['id']}'] .cancel")
            hand.click("dialog[open] .approve")
            server.wait_for(run["id"], "CANCELLED", seconds=120)
            hand.until("document.querySelector('.state.cancelled')", 60)
            hand.until("!document.querySelector('#progress .stage-line.now')", 60)
            # Runs of another library are neither shown nor started.
            assert foreign not in hand.tab.value("document.documentElement.outerHTML")
            refused = httpx.post(
                f"{address}api/runs/start",
                json={"deployment": foreign},
                headers={"origin": address.rstrip("/")},
            )
            assert refused.status_code == 409
            # The server goes away: the page says so and goes on.
            server.kill_server()
            hand.until("document.querySelector('#server .note')", 60)
            assert "does not answer" in hand.tab.text()


def deploy_another_library(server: Site) -> str:
    """A deployment as `mimix deploy` would make it for another library; return its id."""
    flow = server.ask("POST", "/flows/", name="curate")
    parameters = {"config": {"library": "/elsewhere/library.yaml", "workspace": "/elsewhere"}}
    made = server.ask(
        "POST",
        "/deployments/",
        name="other",
        flow_id=flow["id"],
        tags=["mimix", "library:other"],
        parameters=parameters,
    )
    return str(made["id"])


def deployment_of(server: Site, flow: str, name: str) -> str:
    deadline = time.monotonic() + 30
    while True:
        found = server.ask(
            "POST",
            "/deployments/filter",
            deployments={"name": {"any_": [name]}},
            flows={"name": {"any_": [flow]}},
        )
        if found:
            return str(found[0]["id"])
        assert time.monotonic() < deadline
        time.sleep(0.5)
