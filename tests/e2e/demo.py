"""Run the demo as a user does, through the command line."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mimix_core.engine.store import StageRecord, Store

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Demo:
    """A workspace the demo runs in.

    ``settings`` is the settings file it runs with, ``command`` what of MiMix is run, and
    ``server`` the URL of a Prefect server; without one the run starts its own, as a person's does.
    """

    folder: Path
    settings: Path = ROOT / "demo" / "mimix.yaml"
    command: str = "run"
    server: str = ""

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def store(self) -> Store:
        return Store(self.workspace / "store")

    def words(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "flows.cli",
            self.command,
            str(self.settings),
            "--workspace",
            str(self.workspace),
        ]

    def environment(self) -> dict[str, str]:
        mine = {"PREFECT_HOME": str(self.folder / "prefect"), "COLUMNS": "200"}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        if self.server:
            mine["PREFECT_API_URL"] = self.server
        return {**kept, **mine}

    def run(self) -> tuple[str, float]:
        """Run to the end; return its output and its wall seconds."""
        started = time.monotonic()
        done = subprocess.run(
            self.words(),
            cwd=ROOT,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout, time.monotonic() - started

    def start(self, log: Path = Path(os.devnull)) -> subprocess.Popen[bytes]:
        """Start the run in a separate process group and return at once; it prints to ``log``."""
        with log.open("wb") as out:
            return subprocess.Popen(
                self.words(),
                cwd=ROOT,
                env=self.environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def copy(self, folder: Path, **changes: Any) -> Demo:
        """The same state in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return replace(self, folder=folder, **changes)

    def digests(self) -> dict[tuple[str, str], str]:
        """Return the table digest of each stage and unit."""
        found = {}
        for record in self.store.records():
            table = next(file for file in record.files if file.path == Store.TABLE)
            key = (record.stage, record.unit)
            assert key not in found, f"{key} is there twice"
            found[key] = table.sha256
        return found

    def records(self, stage: str) -> list[StageRecord]:
        return [record for record in self.store.records() if record.stage == stage]

    def staging(self, stage: str) -> list[Path]:
        """Return the staging folders of a stage that is running or was killed."""
        staging = self.store.root / ".staging"
        return [p for p in staging.glob(f"{stage}-*") if p.is_dir()] if staging.exists() else []


def stage_lines(printed: str) -> dict[str, str]:
    """Parse the output line of each stage."""
    return {line.split()[0]: line for line in printed.splitlines() if " in: " in line}


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """Start a separate Prefect server on a free port; yield the URL of its API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for_server(url, server, home / "server.log")
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for_server(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"the Prefect server did not start:\n{log.read_text()}")
