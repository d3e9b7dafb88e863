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

from mimix_core.project.live_status import SECONDS_BETWEEN_WRITES, live_status
from tests.deployments.browser import browsing, chromium
from tests.deployments.project_factory import write_project
from tests.deployments.site import Site, site
from tests.paths import ROOT
from tests.studio.comparison_factory import append_checkpoint, write_training_run
from tests.studio.page_hand import DESKTOP, PHONE, Hand
from tests.studio.studio_project import build_project, serve

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
        line = process.stdout.readline()
        assert line, "the studio ended"
        yield line.split()[-1]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def test_curves_and_previews_grow_without_a_server(tmp_path: Path) -> None:
    project = build_project(tmp_path / "studio")
    folder = write_training_run(project.workspace, (0, 10), ["waves", "digs"])
    hostile = "<img src=x onerror=document.title=7>"
    with (
        serve(project) as address,
        browsing(tmp_path) as tab,
        live_status(project.workspace, hostile, "") as writer,
    ):
        writer.begin("clips", 4)
        time.sleep(SECONDS_BETWEEN_WRITES)
        writer.advance("clips", 1, hostile)
        hand = Hand(tab)
        hand.size(DESKTOP)
        hand.open(f"{address}live")
        assert "this page only shows" in hand.tab.text()
        assert hostile in hand.tab.text()
        assert hand.tab.value("document.querySelectorAll('main img, main button').length") == 0
        hand.until("document.querySelectorAll('.training')[0].querySelector('.preview video')")
        hand.tab.value("window.shown = document.querySelector('.preview video')")
        # A step makes the curve longer, and lets the video play on.
        with (folder / "log.jsonl").open("a") as log:
            log.write('{"step": 11, "train_loss": 0.5, "grad_norm": 1.0, "lr": 0.1}\n')
        hand.until("document.querySelector('.training header').textContent.includes('step 11')")
        assert hand.tab.value("window.shown.isConnected")
        append_checkpoint(folder, 20, ["waves", "digs"])
        hand.until("document.querySelector('.training').textContent.includes('after step 20')")
        hand.until(
            "document.querySelectorAll('.training')[0].querySelectorAll('video').length === 2"
        )
        assert not hand.tab.value("window.shown.isConnected")
        assert hand.tab.value("document.title").startswith("25% clips")


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
            hand.until(
                "document.querySelector('.state.scheduled, .state.pending, .state.running')", 120
            )
            [run] = server.runs("train")
            assert run["deployment_id"] == deployment_of(server, "train", "tiny")
            page = hand.tab.value("document.querySelector('.runs a').href")
            assert page == f"{server.url.removesuffix('/api')}/runs/flow-run/{run['id']}"
            # Its stages come and go, with what the training says of itself.
            hand.until("document.querySelector('#progress .stage-line.now')", 400)
            hand.until(
                "[...document.querySelectorAll('#progress .stage-line.now')]"
                ".some((line) => /^lora/.test(line.textContent) && /left/.test(line.textContent))",
                400,
            )
            hand.until("document.querySelector('.training .curve .train')?.getAttribute('d')", 120)
            link = hand.tab.value("document.querySelector('#progress .card a').href")
            assert link == page
            head = "document.querySelector('.training header').textContent"
            step = f"Number({head}.match(/step (\\d+)/)[1])"
            before = hand.tab.value(step)
            hand.until(f"{step} > {before}", 120)
            hand.size(PHONE)
            assert hand.tab.value("document.documentElement.scrollWidth") <= 390
            hand.click(f"[data-run='{run['id']}'] .cancel")
            hand.click("dialog[open] .approve")
            server.wait_for(run["id"], "CANCELLED", seconds=240)
            hand.until("document.querySelector('.state.cancelled')", 120)
            hand.until("!document.querySelector('#progress .stage-line.now')", 120)
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
            hand.until("document.querySelector('#server .note')", 120)
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
