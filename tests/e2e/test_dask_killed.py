"""A run on two Dask workers, one of which dies in the middle of a unit: as if none had died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.deployments.project_factory import write_episode, write_project
from tests.deployments.site import marked
from tests.e2e.demo import ROOT, Demo, prefect_server

pytest.importorskip("prefect_dask", reason="the extra mimix[dask] is not installed")
pytestmark = pytest.mark.e2e

LONG_EPISODES = (24 * 40, 24 * 40 + 1, 24 * 40 + 4)
"""Frames of further episodes, of several clips each."""

EPISODES = 3 + len(LONG_EPISODES)


def test_a_run_survives_a_dead_dask_worker(tmp_path: Path) -> None:
    """Worker and nanny get SIGKILL, as on a machine that goes down; the unit's process does not.

    It has to end by itself: the other worker computes the same unit meanwhile.
    """
    settings = write_project(tmp_path / "project")
    for frames in LONG_EPISODES:
        write_episode(tmp_path / "project" / "toons" / f"long-{frames}.mp4", frames)
    threads = Demo(tmp_path / "threads", settings, command="curate")
    threads.run()
    (tmp_path / "server").mkdir()
    with (
        prefect_server(tmp_path / "server") as url,
        cluster(tmp_path / "cluster", url, "doomed", "survivor") as scheduler,
    ):
        on_dask = settings.with_name("on-dask.yaml")
        run_settings = f"run: {{task_runner: dask, dask_scheduler: '{scheduler}', max_workers: 2}}"
        on_dask.write_text(settings.read_text().replace("run: {max_workers: 2}", run_settings))
        dask = Demo(tmp_path / "dask", on_dask, command="curate", server=url)
        run = dask.start(log=tmp_path / "run.log")
        dead = kill_in_the_middle_of_a_unit(dask, run, "clips", mark(tmp_path, "doomed"))
        wait_until_gone(dead)
        assert run.wait(600) == 0, (tmp_path / "run.log").read_text()[-5000:]
        assert marked(mark(tmp_path, "doomed")) == {}
        attempts = attempts_of_task_runs(url, "clips ")
    assert dask.digests() == threads.digests()
    assert len(dask.records("clips")) == EPISODES
    assert dask.staging("clips") == []
    assert sorted(attempts.values()) == [1] * (EPISODES - 1) + [2], "one unit ran again"


def attempts_of_task_runs(url: str, prefix: str) -> dict[str, int]:
    """Return how often each task run of such a name was running; all of them completed."""
    runs = httpx.post(f"{url}/task_runs/filter", json={}).json()
    found = {}
    for run in runs:
        assert run["state_type"] == "COMPLETED", run
        if run["name"].startswith(prefix):
            states = httpx.get(f"{url}/task_run_states/", params={"task_run_id": run["id"]}).json()
            found[run["name"]] = [state["type"] for state in states].count("RUNNING")
    return found


def mark(folder: Path, name: str) -> str:
    """Return the variable in the environment of a worker and of all processes that it starts."""
    return f"MIMIX_WORKER={folder}/{name}"


@contextmanager
def cluster(folder: Path, prefect_url: str, *names: str) -> Iterator[str]:
    """Start a Dask scheduler and a worker of each name; yield the scheduler's address."""
    folder.mkdir()
    file = folder / "scheduler.json"
    words = [sys.executable, "-m", "dask"]
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    scheduler = [*words, "scheduler", "--port", "0", "--scheduler-file", str(file), *local]
    worker = [*words, "worker", "--scheduler-file", str(file), "--nthreads", "1", *local]
    started = []
    try:
        started.append(start(scheduler, folder / "scheduler.log", dict(os.environ)))
        for name in names:
            variable, _, value = mark(folder.parent, name).partition("=")
            environment = {**os.environ, "PREFECT_API_URL": prefect_url, variable: value}
            environment["PREFECT_HOME"] = str(folder / name)
            own = ["--name", name, "--local-directory", str(folder / name)]
            started.append(start([*worker, *own], folder / f"{name}.log", environment))
        yield wait_for_address(file)
    finally:
        for process in reversed(started):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def start(words: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for_address(file: Path, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, json.JSONDecodeError):
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.1)
    raise AssertionError("the scheduler did not start")


def kill_in_the_middle_of_a_unit(
    demo: Demo, run: subprocess.Popen[bytes], stage: str, worker: str
) -> list[int]:
    """Kill a Dask worker and its nanny while a process of theirs is at work on a unit of the stage.

    ``worker``: its mark. Returns all of their processes, that of the unit included. They are
    stopped first: what the unit finished in the meantime was no middle, and it may go on.
    """
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and run.poll() is None:
        processes = marked(worker)
        units = [pid for pid, words in processes.items() if "mimix_core.engine.worker" in words]
        at_work = [(pid, folder) for pid in units for folder in half_done(demo, stage, pid)]
        if not at_work:
            time.sleep(0.02)
            continue
        unit, folder = at_work[0]
        others = [pid for pid in processes if pid not in units]
        send(signal.SIGSTOP, [unit, *others])
        is_in_the_middle = folder.exists()
        if is_in_the_middle:
            send(signal.SIGKILL, others)
        send(signal.SIGCONT, [unit] if is_in_the_middle else [unit, *others])
        if is_in_the_middle:
            return list(processes)
    raise AssertionError(f"{worker} was never seen at work on {stage}")


def half_done(demo: Demo, stage: str, pid: int) -> list[Path]:
    """Return the staging folders of the stage that hold videos and that the process has open."""
    return [
        folder
        for folder in demo.staging(stage)
        if any(path.suffix == ".mp4" for path in folder.rglob("*")) and holds(pid, folder)
    ]


def send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def holds(pid: int, folder: Path) -> bool:
    """Return whether a process has a file of the folder open."""
    with suppress(OSError):
        for link in Path("/proc", str(pid), "fd").iterdir():
            with suppress(OSError):
                if link.readlink().is_relative_to(folder):
                    return True
    return False


def wait_until_gone(pids: list[int], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(is_alive(pid) for pid in pids):
            return
        time.sleep(0.05)
    raise AssertionError(f"still alive: {[pid for pid in pids if is_alive(pid)]}")


def is_alive(pid: int) -> bool:
    """Return whether the process runs; a dead one whose parent has not asked yet does not."""
    with suppress(OSError):
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
