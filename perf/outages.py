"""Drill: outages of the server and killed workers at random times, while runs are at work.

``python perf/outages.py --minutes 60 --seed 1`` sets up a Prefect server with a worker as an
operator does, runs the flow ``mimix`` once undisturbed over the smallest library that goes through
every stage, and then again and again in new workspaces. Meanwhile the server is killed and stays
away for 5 to 180 s, or the worker is killed: alone, or with all processes that it started. Like a
service manager, the drill starts them again. Every run must end COMPLETED with the tables of the
undisturbed one; at the end no slot may be taken and no process be left. Ctrl-C ends the
disturbances early. Writes perf/results/outages.json and exits with 1 if anything was wrong or
stuck.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx

from mimix_core.engine.store import Store
from mimix_core.settings import Config, load_config
from perf.record import record
from tests.deployments.project_factory import write_project
from tests.deployments.site import FINAL, MIMIX_WORKER, Site, Worker, marked, site

OUTAGE_SECONDS = (5.0, 180.0)
PAUSE_SECONDS = (10.0, 60.0)
"""Quiet time between two disturbances."""
KINDS = ("outage", "killed worker", "killed worker with its run")
UNITS = {
    "seed": "of the random times",
    "minutes": "min of disturbances",
    "runs": "runs of the complete pipeline",
    "wrong": "runs not completed, or with other tables than the undisturbed one",
    "stuck": "runs without an end 15 min after the last disturbance",
    "outage": "times the server was killed and away for 5 to 180 s",
    "killed_worker": "times a worker was killed, its run not",
    "killed_worker_with_its_run": "times both were killed",
    "slots_left": "runs that hold a slot at the end",
    "processes_left": "processes at the end",
}
STUCK_SECONDS = 900.0
"""Time that a run has after the last disturbance."""


@dataclass
class Disturbances:
    """Kill server and workers at random times in a thread, and start them again."""

    place: Site
    chance: random.Random
    workers: list[Worker] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    up: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    minutes: float = 0.0
    """How long they lasted, once they are over."""

    def start_worker(self) -> None:
        name = f"w{len(self.workers)}"
        self.workers.append(self.place.worker(name, "--limit", "1", command=MIMIX_WORKER))

    def run(self) -> None:
        start = time.monotonic()
        self._disturb()
        self.minutes = (time.monotonic() - start) / 60

    def _disturb(self) -> None:
        while not self.over.wait(self.chance.uniform(*PAUSE_SECONDS)):
            kind = self.chance.choice(KINDS)
            self.counts[kind] = self.counts.get(kind, 0) + 1
            say(kind)
            if kind == "outage":
                self.up.clear()
                self.place.kill_server()
                self.over.wait(self.chance.uniform(*OUTAGE_SECONDS))
                self.place.start_server()
                self.up.set()
                if self.workers[-1].process.poll() is not None:
                    self.start_worker()
                continue
            # The run may be of an earlier worker, which was killed alone.
            for worker in self.workers:
                for pid, words in marked(worker.mark).items():
                    if kind == "killed worker with its run" or is_of_worker(words):
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
            self.workers[-1].process.wait()
            self.start_worker()


def is_of_worker(words: str) -> bool:
    """Return whether a command line is that of `mimix worker` or of its Prefect worker."""
    return "flows.cli worker" in words or "flows.process_worker" in words


def say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def digests(config: Config) -> dict[str, str]:
    """Return the digest of each table in the workspace's store, by stage and unit."""
    store = Store(config.workspace / "store")
    return {
        f"{one.stage} {one.unit} {one.key}": next(
            file.sha256 for file in one.files if file.path == Store.TABLE
        )
        for one in store.records()
    }


def wait_for_end(disturbances: Disturbances, run: str) -> dict[str, str]:
    """Return the run's last state; it has STUCK_SECONDS from the last disturbance on."""
    deadline: float | None = None
    while True:
        if disturbances.over.is_set() and deadline is None:
            deadline = time.monotonic() + STUCK_SECONDS
        with suppress(httpx.HTTPError):
            state: dict[str, str] = disturbances.place.ask("GET", f"/flow_runs/{run}")["state"]
            is_final = state["type"] in FINAL and state["type"] != "CRASHED"
            if is_final or (deadline is not None and time.monotonic() > deadline):
                return state
        time.sleep(2)


def start_run(disturbances: Disturbances, config: Config) -> str | None:
    """Start the flow ``mimix`` in an own workspace; None if the server was away."""
    disturbances.up.wait()
    with suppress(AssertionError, httpx.HTTPError):
        return disturbances.place.start("mimix", config)
    return None


def drill(folder: Path, minutes: float, seed: int) -> dict[str, float]:
    """Run the drill below ``folder`` and return its figures."""
    settings = load_config(write_project(folder / "project"))
    figures: dict[str, float] = {"seed": seed}
    with site(folder / "site") as place:
        place.deploy(folder / "project" / "mimix.yaml")
        disturbances = Disturbances(place, random.Random(seed))
        disturbances.up.set()
        disturbances.start_worker()

        def in_workspace(name: str) -> Config:
            return settings.model_copy(update={"workspace": folder / name})

        first = start_run(disturbances, in_workspace("undisturbed"))
        assert first is not None
        place.wait_for(first, "COMPLETED", seconds=900)
        expected = digests(in_workspace("undisturbed"))
        say(f"undisturbed: {len(expected)} tables")

        signal.signal(signal.SIGINT, lambda *_: disturbances.over.set())
        thread = threading.Thread(target=disturbances.run, daemon=True)
        thread.start()
        timer = threading.Timer(60 * minutes, disturbances.over.set)
        timer.daemon = True
        timer.start()
        figures |= {"runs": 0, "wrong": 0, "stuck": 0}
        while not disturbances.over.is_set():
            config = in_workspace(f"run-{figures['runs']:g}")
            run = start_run(disturbances, config)
            if run is None:
                continue
            figures["runs"] += 1
            asked = time.monotonic()
            state = wait_for_end(disturbances, run)
            took = time.monotonic() - asked
            say(f"run {figures['runs']:g}, {took:.0f} s: {state['name']} {state.get('message')}")
            if state["type"] not in FINAL or state["type"] == "CRASHED":
                figures["stuck"] += 1
            elif state["type"] != "COMPLETED" or digests(config) != expected:
                figures["wrong"] += 1
                found = digests(config)
                say(f"differ: {[one for one in expected if found.get(one) != expected[one]]}")
        thread.join()
        figures["minutes"] = round(disturbances.minutes, 1)
        for kind in KINDS:
            figures[kind.replace(" ", "_")] = disturbances.counts.get(kind, 0)
        figures |= what_is_left(disturbances)
    return figures


def what_is_left(disturbances: Disturbances, seconds: float = 60.0) -> dict[str, float]:
    """Count processes of runs, and runs that still hold a slot, a minute after the last run."""
    deadline = time.monotonic() + seconds
    while True:
        processes = [
            words
            for worker in disturbances.workers
            for words in marked(worker.mark).values()
            if not is_of_worker(words)
        ]
        held = disturbances.place.ask(
            "POST",
            "/flow_runs/filter",
            flow_runs={"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}},
        )
        if not (processes or held) or time.monotonic() > deadline:
            for left in (*processes, *(one["state"] for one in held)):
                say(f"left: {left}")
            return {"slots_left": len(held), "processes_left": len(processes)}
        time.sleep(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="Do not write perf/results.")
    parser.add_argument("--folder", type=Path, help="New folder for workspaces and logs, kept.")
    words = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the server and workers as well
    with ExitStack() as stack:
        folder = words.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="mimix-outages-"))
        )
        figures = drill(folder, words.minutes, words.seed)
    say(str(figures))
    if not words.dry:
        record("outages", figures, UNITS)
    bad = ("wrong", "stuck", "slots_left", "processes_left")
    sys.exit(any(figures[name] for name in bad) or not figures["runs"])


if __name__ == "__main__":
    main()
