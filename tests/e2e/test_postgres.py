"""Two workers of one pool with a shared workspace, and a Prefect server on PostgreSQL.

PostgreSQL is Debian's (`apt-get install postgresql`); without it these tests are skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mimix_core.engine.store import Store
from mimix_core.settings import load_config
from tests.e2e.demo import ROOT, wait_for_server
from tests.media_factory import Shot, write_video

pytestmark = pytest.mark.e2e

LIBRARY = """\
shows:
  - id: toons
    title: Toons
    style: cartoon
    characters: [{name: Tom, description: A cat}]
    episodes: [{path: "*.mp4"}]
"""
SETTINGS = """\
library: library.yaml
workspace: workspace
run: {max_workers: 1}
overlays: {backend: none}
clips: {width: 160, height: 96, preset: ultrafast, min_motion: 0, min_sharpness: 0}
"""
EPISODES = 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not debian:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    return debian[-1].parent


@contextmanager
def postgres() -> Iterator[str]:
    """Start a separate PostgreSQL on loopback; yield the URL of an empty database."""
    folder, programs, port = Path(tempfile.mkdtemp(prefix="mimix-pg-")), binaries(), free_port()
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:  # which it refuses to run as
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
        owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    words = ["-D", str(folder / "data")]
    try:
        subprocess.run(
            [programs / "initdb", *words, "--username", "prefect", "--auth", "trust", "--no-sync"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            **owner,
        )
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        log = ["-l", str(folder / "log")]
        start = [programs / "pg_ctl", *words, *log, "-w", "-o", options, "start"]
        subprocess.run(start, cwd=folder, check=True, stdout=subprocess.DEVNULL, **owner)
        try:
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
        finally:
            stop = [programs / "pg_ctl", *words, "-m", "immediate", "stop"]
            subprocess.run(stop, cwd=folder, check=True, stdout=subprocess.DEVNULL, **owner)
    finally:
        shutil.rmtree(folder)


@contextmanager
def running(words: list[str], environment: dict[str, str], log: Path) -> Iterator[Any]:
    """Start a process in a separate group; it is terminated at the end of the context."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


DRIVER = """
import json, sys, time
from pathlib import Path
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from mimix_core.settings import load_config

settings, root = Path(sys.argv[1]), sys.argv[2]
config = load_config(settings).model_dump(mode="json")
curate = flow.from_source(source=root, entrypoint="flows/curate.py:curate")
curate.deploy("shared", "pool", parameters={"config": config}, print_next_steps=False)
ids = [run_deployment("curate/shared", timeout=0, as_subflow=False).id for _ in range(2)]
with get_client(sync_client=True) as client:
    deadline = time.monotonic() + 240
    runs = []
    while time.monotonic() < deadline:
        runs = [client.read_flow_run(id) for id in ids]
        if all(run.state is not None and run.state.is_final() for run in runs):
            break
        time.sleep(1)
print(json.dumps([
    [str(run.id), run.state_name, str(run.start_time), str(run.end_time), run.infrastructure_pid]
    for run in runs
]))
"""


def counted(url: str, query: str) -> int:
    import asyncpg

    async def ask() -> int:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            return int(await connection.fetchval(query))
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_two_workers_share_a_workspace_and_a_server_on_postgresql(tmp_path: Path) -> None:
    for number in range(EPISODES):
        write_video(tmp_path / f"{number}.mp4", [Shot(24 * 8 + number)], size=(160, 96))
    (tmp_path / "library.yaml").write_text(LIBRARY)
    (tmp_path / "mimix.yaml").write_text(SETTINGS)
    (tmp_path / "home").mkdir()
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    shared = {
        **kept,
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    client = {
        **shared,
        "PREFECT_API_URL": url,
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(tmp_path / "results"),
    }
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        served = {**shared, "PREFECT_API_DATABASE_CONNECTION_URL": database}
        words = ["prefect", "server", "start", "--port", str(port), "--no-ui"]
        log = tmp_path / "server.log"
        wait_for_server(url, stack.enter_context(running(words, served, log)), log)
        prefect = [sys.executable, "-m", "prefect"]
        pool = [*prefect, "work-pool", "create", "--type", "process", "pool"]
        subprocess.run(pool, env=client, check=True, stdout=subprocess.DEVNULL)
        for name in ("one", "two"):
            worker = [
                "prefect",
                "worker",
                "start",
                "--pool",
                "pool",
                "--name",
                name,
                "--limit",
                "1",
            ]
            stack.enter_context(running(worker, client, tmp_path / f"worker-{name}.log"))
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, str(tmp_path / "mimix.yaml"), str(ROOT)],
            cwd=ROOT,
            env=client,
            capture_output=True,
            text=True,
            check=False,
        )
        logs = {n: (tmp_path / f"worker-{n}.log").read_text() for n in ("one", "two")}
        assert done.returncode == 0, done.stderr
        runs = json.loads(done.stdout.splitlines()[-1])
        assert [run[1] for run in runs] == ["Completed"] * 2, logs

        took = [{name for name, said in logs.items() if run[0] in said} for run in runs]
        assert sorted(map(sorted, took)) == [["one"], ["two"]], "each worker took one"
        assert max(run[2] for run in runs) < min(run[3] for run in runs), "at the same time"

        # The database is PostgreSQL, and it has every unit of both runs.
        assert not list((tmp_path / "home").glob("*.db"))
        config = load_config(tmp_path / "mimix.yaml")
        store = Store(config.workspace / "store")
        records = list(store.records())
        assert len(records) == 5 * EPISODES + 1
        deadline = time.monotonic() + 60
        stages = ", ".join(sorted({f"'{record.stage}'" for record in records}))
        query = (
            "select count(*) from task_run where state_type = 'COMPLETED' "
            f"and split_part(name, ' ', 1) in ({stages})"
        )
        while counted(database, query) < 2 * len(records) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert counted(database, query) == 2 * len(records)

    # The store is consistent: no staging folders, no claims, every result as committed.
    assert all(store.lookup(record.stage, record.key) for record in records)
    assert not [p for p in (store.root / ".staging").iterdir() if p.is_dir()]
    assert not list((store.root / Store.CLAIMS).iterdir())
