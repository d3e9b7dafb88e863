"""MiMix as an operator runs it: a Prefect server, workers, deployments, an inbox, a browser.

Everything is real and small: three episodes of one clip each, and a backbone of random weights.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mimix_core.engine.registry import stage_names
from mimix_core.settings import Config, load_config
from mimix_core.tables import Status
from tasks.dataset_approval import SERVER_FAILED
from tests.deployments.browser import browsing, chromium
from tests.deployments.project_factory import write_episode, write_project
from tests.deployments.site import POOL, PROCESS_WORKER, Site, Worker, marked, rows, site
from tests.e2e.demo import ROOT

pytestmark = pytest.mark.e2e

FLOWS = ("curate", "inbox", "augment", "train", "generate", "benchmark", "mimix")
NEW_FRAMES = 24 * 6 + 40
NOT_PAUSED = "Cannot resume a flow run that is not paused"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def config(settings: Path) -> Config:
    return load_config(settings)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="module")
def worker(server: Site, settings: Path) -> Worker:
    """What ``mimix worker --limit 1`` watches, on a server that ``mimix deploy`` has set up."""
    server.deploy(settings)
    return server.worker("one", "--limit", "1", command=PROCESS_WORKER)


def test_the_plain_yaml_deploys_and_every_flow_completes(
    server: Site, config: Config, worker: Worker
) -> None:
    """``prefect deploy --all`` alone, without settings: each run passes them."""
    printed = server.command(
        "prefect", "--no-prompt", "deploy", "--prefect-file", "deployments/prefect.yaml", "--all"
    )
    assert all(f"{name}/{name}" in printed for name in FLOWS)
    server.library = ""
    runs = {name: server.start(name, config) for name in FLOWS}
    server.library = "tiny"
    for run in runs.values():
        server.wait_for(run, "COMPLETED", seconds=600)
    assert {stage for stage in stage_names() if rows(config, stage)} >= {
        "captions",
        "dataset",
        "scores",
    }
    assert (config.workspace / "report" / "index.html").stat().st_size > 10_000
    shown = server.ask(
        "POST", "/artifacts/filter", artifacts={"flow_run_id": {"any_": [runs["mimix"]]}}
    )
    assert {"mimix-mimix-summary", "mimix-report"} <= {one["key"] for one in shown}


def test_lineage_is_recorded_as_assets(server: Site, config: Config) -> None:
    """The lineage of the runs above: each asset's materialization names its parents."""
    parents: dict[str, set[str]] = {}
    found = server.ask(
        "POST",
        "/events/filter",
        filter={"event": {"name": ["prefect.asset.materialization.succeeded"]}},
        limit=50,
    )
    for event in found["events"]:
        parents.setdefault(
            event["resource"]["prefect.resource.id"].rsplit("/", 1)[-1], set()
        ).update(
            one["prefect.resource.id"].rsplit("/", 1)[-1]
            for one in event["related"]
            if one["prefect.resource.role"] == "asset"
        )
    assert len(parents["toons"]) == 2
    assert len(parents["people"]) == 1
    assert parents["dataset"] == {"toons", "people"}
    assert parents["lora"] == {"dataset"}
    assert parents["scores"] == {"samples"}


def test_a_browser_shows_form_run_and_artifacts(
    server: Site, settings: Path, worker: Worker, tmp_path: Path
) -> None:
    """MIMIX_SCREENSHOTS=docs/images writes the screenshots of docs/operation.md."""
    if chromium() is None:
        pytest.skip("no Chromium or Chrome: apt-get install chromium, or set MIMIX_CHROMIUM")
    server.deploy(settings)
    pictures = Path(os.environ.get("MIMIX_SCREENSHOTS", tmp_path)).resolve()
    ui = server.url.removesuffix("/api")
    run = server.runs("mimix")[0]["id"]
    deployment = server.ask("GET", "/deployments/name/mimix/tiny")["id"]
    with browsing(tmp_path) as page:
        page.open(f"{ui}/deployments/deployment/{deployment}/run")
        page.wait_for("library.yaml", "Pause before training", "tiny-random-wan")
        assert str(settings.parent / "library.yaml") in page.value(
            "[...document.querySelectorAll('input, textarea')].map(e => e.value).join('|')"
        )
        page.shoot(pictures / "ui-form.png")
        page.open(f"{ui}/runs/flow-run/{run}")
        page.wait_for("Completed", "mimix-process", "Task Runs", "Finished in state")
        page.click("Artifacts")
        page.wait_for("mimix-mimix-summary", "mimix-report")
        page.wait_until("document.querySelectorAll('canvas').length > 0")
        page.shoot(pictures / "ui-run.png")
        page.open(f"{ui}/artifacts/artifact/{artifact(server, 'mimix-curate-summary')}")
        page.wait_for("rows in", "captions")
        page.shoot(pictures / "ui-summary.png")
        page.open(f"{ui}/artifacts/artifact/{artifact(server, 'mimix-augment-rejects')}")
        page.wait_for("cutouts", "not_located")
        page.shoot(pictures / "ui-rejects.png")
        page.open(f"{ui}/artifacts/artifact/{artifact(server, 'mimix-clips')}")
        page.wait_until(
            "[...document.images].some(i => i.src.startsWith('data:image/jpeg') && "
            "i.complete && i.naturalWidth > 100)"
        )
        page.shoot(pictures / "ui-clips.png")


def artifact(server: Site, key: str) -> str:
    """Return the id of the latest artifact with that key."""
    found = server.ask("POST", "/artifacts/filter", artifacts={"key": {"any_": [key]}}, limit=1)
    return str(found[0]["id"])


def test_a_file_copied_into_the_inbox_starts_one_run(
    server: Site, config: Config, settings: Path, worker: Worker, tmp_path: Path
) -> None:
    server.deploy(settings)
    assert config.inbox is not None
    source = tmp_path / "new.mp4"
    write_episode(source, NEW_FRAMES)
    watching = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "watch", str(settings), "--every", "1"],
        cwd=ROOT,
        env=server.environment,
        stdout=subprocess.DEVNULL,
    )
    before = {run["id"] for run in server.runs("inbox")}
    try:
        content = source.read_bytes()
        with (config.inbox / "toons" / "new.mp4").open("wb") as copy:
            copy.write(content[: len(content) // 2])
            copy.flush()
            time.sleep(8)
            assert {run["id"] for run in server.runs("inbox")} == before
            copy.write(content[len(content) // 2 :])
        run = wait_for_new_run(server, "inbox", before)
        server.wait_for(run, "COMPLETED")
        shutil.copyfile(source, config.inbox / "toons" / "once-more.mp4")
        time.sleep(8)
    finally:
        watching.terminate()
        watching.wait()
    new = [one for one in server.runs("inbox") if one["id"] not in before]
    shown = server.ask(
        "POST",
        "/artifacts/filter",
        artifacts={
            "flow_run_id": {"any_": [one["id"] for one in new]},
            "key": {"any_": ["mimix-inbox-summary"]},
        },
    )
    assert {one["flow_run_id"] for one in shown} == {run}, "other runs found nothing to do"
    assert (config.library.parent / "toons" / "new.mp4").read_bytes() == content
    captioned = [row for row in rows(config, "captions") if row["status"] == Status.OK]
    assert len(captioned) == 4


def test_the_schedule_finds_files_without_events(
    server: Site, config: Config, worker: Worker, tmp_path: Path
) -> None:
    """Twenty files at once without `mimix watch`; the schedule starts the run."""
    assert config.inbox is not None
    for number in range(20):
        write_episode(config.inbox / "people" / f"{number}.mp4", 24 * 2 + number)
    before = {run["id"] for run in server.runs("inbox")}
    deployment = server.ask("GET", "/deployments/name/inbox/tiny")
    [schedule] = deployment["schedules"]
    assert (schedule["active"], schedule["schedule"]["cron"]) == (False, "*/15 * * * *")
    url = f"{server.url}/deployments/{deployment['id']}/schedules"
    every_minute = [{"active": True, "schedule": {"cron": "* * * * *", "timezone": "UTC"}}]
    [made] = httpx.post(url, json=every_minute, timeout=180).raise_for_status().json()
    try:
        run = wait_for_new_run(server, "inbox", before, seconds=150)
        server.wait_for(run, "COMPLETED", seconds=400)
    finally:
        httpx.delete(f"{url}/{made['id']}", timeout=180)
    seen = {row["episode_id"] for row in rows(config, "scenes")}
    assert len(seen) == 4 + 20
    assert not list((config.inbox / "people").iterdir())


def test_a_paused_pool_holds_runs_and_two_workers_share_them(
    server: Site, config: Config, worker: Worker
) -> None:
    server.command("prefect", "work-pool", "pause", POOL)
    runs = [server.start("curate", config) for _ in range(3)]
    second = server.worker("two", "--limit", "1")
    taken = worker.took()
    time.sleep(12)
    assert {server.state(run) for run in runs} == {"SCHEDULED"}
    server.command("prefect", "work-pool", "resume", POOL)
    for run in runs:
        server.wait_for(run, "COMPLETED")
    assert worker.took() - taken + second.took() == len(runs)
    assert worker.took() > taken and second.took() > 0
    second.end()


def test_a_run_cancelled_during_training_leaves_nothing_and_resumes(
    server: Site, config: Config, worker: Worker
) -> None:
    longer = config.model_copy(update={"lora": config.lora.model_copy(update={"epochs": 100_000})})
    run = server.start("train", longer)
    deadline = time.monotonic() + 240
    while not any("mimix_core.training" in words for words in worker.descendants().values()):
        assert time.monotonic() < deadline, server.logs()
        time.sleep(0.5)
    time.sleep(5)
    server.ask("POST", f"/flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    asked = time.monotonic()
    while worker.descendants() and time.monotonic() - asked < 60:
        time.sleep(0.2)
    took = time.monotonic() - asked
    assert not worker.descendants()
    assert took < 10
    server.wait_for(run, "CANCELLED")
    # What was there before stays: a run with the settings of before computes nothing anew.
    again = server.start("train", config)
    server.wait_for(again, "COMPLETED")


def suspended_runs(
    server: Site, config: Config, worker: Worker, *, count: int, seed: int
) -> list[str]:
    """Start runs that ask for an approval of the same dataset; return them when all wait for it."""
    asks = config.model_copy(
        update={
            "run": config.run.model_copy(update={"require_approval": True}),
            "dataset": config.dataset.model_copy(update={"seed": seed}),
        }
    )
    runs = [server.start("train", asks) for _ in range(count)]
    for run in runs:
        server.wait_for(run, "PAUSED")
    while worker.descendants():
        time.sleep(0.5)  # nothing is held while they wait
    [shown] = server.ask(
        "POST",
        "/artifacts/filter",
        artifacts={"flow_run_id": {"any_": [runs[-1]]}, "key": {"any_": ["mimix-review"]}},
    )
    assert "samples, 0 left out, 0 failed" in shown["data"]
    return runs


def resume(server: Site, run: str, form: dict[str, object]) -> None:
    """Resume a run as a person does: again if the server says that it failed itself.

    Prefect reports an error within its rules, e.g. of a busy SQLite, as ABORT. What failed may
    have been done all the same: then the run is not paused any more.
    """
    failed = False
    for _ in range(10):
        said = server.ask("POST", f"/flow_runs/{run}/resume", run_input=form)
        if failed and NOT_PAUSED in str(said["details"]):
            return
        if SERVER_FAILED not in str(said["details"]):
            break
        failed = True
        time.sleep(1)
    assert said["status"] == "ACCEPT", said


def test_a_review_suspends_the_run_until_it_is_approved(
    server: Site, config: Config, worker: Worker
) -> None:
    refused, approved = suspended_runs(server, config, worker, count=2, seed=7)
    for run, answer in ((refused, False), (approved, True)):
        form = {"approve": answer, "note": "by a test"}
        resume(server, run, form)
        server.wait_for(run, "COMPLETED" if answer else "FAILED")


@pytest.mark.drill
def test_forms_without_an_answer_ask_again_and_every_no_counts(
    server: Site, config: Config, worker: Worker
) -> None:
    refused, approved, overruled = suspended_runs(server, config, worker, count=3, seed=8)
    # Resumed without an answer, it asks again.
    for form in ({}, {"note": "no choice"}):
        resume(server, approved, form)
        server.wait_for(approved, "RUNNING", seconds=120)
        server.wait_for(approved, "PAUSED")
    # Another reviewer's no in a form of its own counts, although somebody said yes before.
    for run, reviewer, answer in (
        (refused, "Bob", False),
        (approved, "Ann", True),
        (overruled, "Cy", False),
    ):
        form = {"approve": answer, "note": "by a test", "reviewer": reviewer}
        resume(server, run, form)
        server.wait_for(run, "COMPLETED" if answer else "FAILED")
    records = (config.workspace / "reviews").glob("*.json")
    newest = max(records, key=lambda path: path.stat().st_mtime_ns)
    decisions = json.loads(newest.read_text())["decisions"]
    assert [(d["reviewer"], d["approved"]) for d in decisions] == [
        *(("Bob", False), ("Ann", True), ("Cy", False))
    ]
    assert all(d["decided_at"] for d in decisions)


def test_a_worker_ends_on_sigterm_and_its_run_is_taken_up_again(
    server: Site, config: Config, worker: Worker
) -> None:
    other = config.model_copy(update={"workspace": config.workspace.parent / "ended"})
    worker.end()
    log = server.folder / "mimix-worker.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "worker", "--pool", POOL, "--limit", "1"],
            cwd=ROOT,
            env={**server.environment, "MIMIX_WORKER": "ends-on-sigterm"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    run = server.start("curate", other)
    server.wait_for(run, "RUNNING")
    time.sleep(2)
    process.terminate()
    assert process.wait(40) == 0, log.read_text()
    assert marked("MIMIX_WORKER=ends-on-sigterm") == {}
    assert server.state(run) == "SCHEDULED"
    heir = server.worker("heir", "--limit", "1")
    server.wait_for(run, "COMPLETED", seconds=300)
    heir.end()


def wait_for_new_run(server: Site, name: str, before: set[str], seconds: float = 90) -> str:
    """Return the id of a new run of the deployment that has started."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for run in server.runs(name):
            if run["id"] not in before and run["state"]["type"] in ("RUNNING", "COMPLETED"):
                return str(run["id"])
        time.sleep(1)
    raise AssertionError(f"no new run of {name}\n{server.logs()}")
