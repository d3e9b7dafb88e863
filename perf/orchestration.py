"""What Prefect costs over 81 hours of episodes: time, database, and memory of the flow's process.

``python perf/orchestration.py`` runs the real flow ``mimix`` over 240 episodes with every stage
stubbed: a unit commits an empty table with true counts and does no work. It runs once beside a
Prefect server of its own (SQLite), as a worker runs it, and once with the same units handed to a
plain pool of threads. The difference is Prefect's. What progress updates cost comes on top of it: a
stub is too quick to make any.

The work that this is a share of is estimated from ``perf/results/curate.json`` alone: scenes and
clips of 81 hours on this machine. Captions, cutouts, latents and training only add to it.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perf.record import RESULTS, ROOT, record

SHOWS = {"tom-and-jerry": 9, "we-bare-bears": 18, "mr-bean": 8, "young-sheldon": 46}
"""Hours of the paper's shows."""

EPISODES_AN_HOUR = 240 / 81
CLIPS = 52_000
UPDATES = 300
"""Progress updates whose cost is measured."""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as name:
        folder = Path(name)
        settings = library(folder)
        plain = _part("plain", settings, {})
        shutil.rmtree(folder / "workspace")
        served, server = _served(settings, folder / "server")
    curate = json.loads((RESULTS / "curate.json").read_text())["figures"]
    work_seconds = 3600 * curate["hours_for_81_hours_on_this_machine"]
    wall = served["seconds"] - plain["seconds"]
    cpu = served["cpu_seconds"] - plain["cpu_seconds"] + server["cpu_seconds"]
    updates = served["workers"] * work_seconds / served["progress_seconds"]
    # A unit works on while its progress is told: what that takes from it is processor time.
    progress = updates * (served["update_cpu_seconds"] + server["update_cpu_seconds"])
    units = served["units"]
    figures = {
        "share_of_work": (max(wall, cpu) + progress) / work_seconds,
        "database_mb": server["database_mb"],
        "client_rss_growth_mb": served["rss_growth_mb"],
        "database_rows": server["database_rows"],
        "client_rss_growth_mb_without_prefect": plain["rss_growth_mb"],
        "client_rss_kb_per_unit": 1000 * (served["rss_growth_mb"] - plain["rss_growth_mb"]) / units,
        "units": units,
        "task_runs_in_the_database": server["task_runs"],
        "prefect_wall_seconds": wall,
        "prefect_cpu_seconds": cpu,
        "ms_per_unit": 1000 * max(wall, cpu) / units,
        "server_cpu_ms_per_unit": 1000 * server["cpu_seconds"] / units,
        "database_kb_per_unit": 1000 * server["database_mb"] / units,
        "progress_updates": updates,
        "progress_seconds": progress,
        "own_seconds": plain["seconds"],
        "work_hours": work_seconds / 3600,
        "client_rss_mb": served["rss_mb"],
        "server_rss_mb": server["rss_mb"],
    }
    said = {
        "share_of_work": "of the time that scenes and clips alone take (bar 0.01)",
        "database_mb": "MB, SQLite, after the run (bar 200)",
        "database_rows": "rows in all tables",
        "client_rss_growth_mb": "MB resident, from the end of the second stage to the last",
        "client_rss_growth_mb_without_prefect": "MB, the same run without Prefect",
        "client_rss_kb_per_unit": "kB that Prefect keeps of a unit: the first less the second",
        "units": "task runs: 240 episodes x stages",
        "task_runs_in_the_database": "task runs in their final state: the units, and the lineage",
        "prefect_wall_seconds": "s wall: with Prefect less without",
        "prefect_cpu_seconds": "CPU s: the same of the flow's process, and all of the server's",
        "ms_per_unit": "ms, the larger of the two by unit",
        "server_cpu_ms_per_unit": "ms CPU",
        "database_kb_per_unit": "kB",
        "progress_updates": "updates of progress artifacts while the work lasts",
        "progress_seconds": "CPU s for them, the flow's process and the server's",
        "own_seconds": "s wall: keys, store and commits of all units, without Prefect",
        "work_hours": "h, perf/results/curate.json",
        "client_rss_mb": "MB resident at the end",
        "server_rss_mb": "MB resident at the end",
    }
    path = record(
        "orchestration",
        {key: round(value, 5) for key, value in figures.items()},
        said,
        "The flow mimix over 240 episodes, 52,000 clips, every stage stubbed to no work.",
    )
    print(path.read_text())


def library(folder: Path) -> Path:
    """A library of the paper's size, each episode a few bytes long; gives the settings file."""
    shows: list[dict[str, Any]] = []
    for show, hours in SHOWS.items():
        (folder / show).mkdir()
        for number in range(round(hours * EPISODES_AN_HOUR)):
            (folder / show / f"{show}-{number:03}.mp4").write_text(f"{show} {number}")
        shows.append(
            {
                "id": show,
                "title": show,
                "style": "cartoon" if show in ("tom-and-jerry", "we-bare-bears") else "realistic",
                "characters": [{"name": f"Hero of {show}", "description": "the hero"}],
                "episodes": [{"path": f"{show}/*.mp4"}],
            }
        )
    (folder / "library.yaml").write_text(json.dumps({"shows": shows}))
    hero = shows[0]["characters"][0]["name"]
    prompt = {
        "id": "hero",
        "category": "single",
        "characters": [hero],
        "actions": [{"name": hero, "action": "waves"}],
        "style": "cartoon",
    }
    (folder / "prompts.yaml").write_text(json.dumps({"prompts": [prompt]}))
    settings = {
        "library": "library.yaml",
        "workspace": "workspace",
        "captions": {"backend": "script"},
        "backbone": {"name": "tiny-random-wan"},
        "samples": {"prompts": "prompts.yaml"},
    }
    settings["cutouts"] = {"backend": "grabcut"}  # needs no weights, and no unit runs
    (folder / "mimix.yaml").write_text(json.dumps(settings))
    return folder / "mimix.yaml"


def _served(settings: Path, home: Path) -> tuple[dict[str, float], dict[str, float]]:
    """The run beside a server; what it says of itself, and what is seen of the server."""
    from tests.e2e.demo import prefect_server

    home.mkdir()
    with prefect_server(home) as url:
        [group] = [int(pid) for pid in _children(os.getpid())]
        before = _cpu_seconds(group)
        environment = {"PREFECT_API_URL": url, "PREFECT_HOME": str(home / "client")}
        said = _part("prefect", settings, environment)
        task_runs = _settled(url, int(said["units"]))
        used = _cpu_seconds(group) - before
        before = _cpu_seconds(group)
        said |= _part("updates", settings, environment)
        seen = {
            "cpu_seconds": used,
            "task_runs": float(task_runs),
            "update_cpu_seconds": (_cpu_seconds(group) - before) / UPDATES,
            "rss_mb": _status_mb(str(group), "VmRSS"),
        }
        seen["database_mb"] = sum(p.stat().st_size for p in home.glob("prefect.db*")) / 1e6
        seen["database_rows"] = float(_rows(home / "prefect.db"))
    return said, seen


def _rows(database: Path) -> int:
    """Rows of all tables of an SQLite database that is in use."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        names = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
        counts = (connection.execute(f'select count(*) from "{name}"') for (name,) in names)
        return sum(count.fetchone()[0] for count in counts)


def _part(name: str, settings: Path, environment: dict[str, str]) -> dict[str, float]:
    """Run a part in a process of its own; gives the figures that it prints last."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, __file__, name, str(settings)],
        cwd=ROOT,
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    print(done.stdout, file=sys.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _settled(url: str, units: int) -> int:
    """Task runs in their final state, once all are written or two minutes have passed."""
    import httpx

    asked = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    deadline = time.monotonic() + 120
    count = 0
    while count < units and time.monotonic() < deadline:
        time.sleep(1)
        count = httpx.post(f"{url}/task_runs/count", json=asked, timeout=30).json()
    return count


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status_mb(pid: str, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024 / 1e6


# --- the parts, each in a process of its own ---


NOTES = (
    *("captions_cut", "composites", "train", "composite_share"),
    *("wanted", "made", "usable_cutouts", "most_used", "max_uses"),
)
"""What flows read from the records of stages."""


def stub_stages() -> None:
    """From now on a unit commits an empty table, with as many rows counted as it would have."""
    from mimix_core.engine.worker import UnitReply, UnitRequest
    from tasks import base

    def run_child(asked: UnitRequest, **_: Any) -> UnitReply:
        return UnitReply(ref=_commit(asked), computed=True)

    patch.object(base, "run_in_subprocess", run_child).start()


def _commit(asked: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mimix_core import tables
    from mimix_core.engine import registry
    from mimix_core.engine.artifacts import Counts
    from mimix_core.engine.store import StageRecord, Store

    stage = registry.get_stage(asked.stage)
    inputs = stage.inputs.model_validate(asked.inputs)
    key = stage.key(inputs, stage.settings.model_validate(asked.settings))
    episodes = sum(round(hours * EPISODES_AN_HOUR) for hours in SHOWS.values())
    rows = CLIPS // 9 if stage.name in ("composites", "recaptions") else CLIPS // episodes
    table = []
    with Store(asked.store).staging(stage.name, key) as out:
        if stage.name == "duplicates":
            (out / "episodes").mkdir()
            for clips in inputs.clips:
                # No two are the same bytes, as no two episodes' are.
                names = [f"{clips.key}-{number}" for number in range(rows)]
                empty = pa.nulls(rows, pa.string())
                verdicts = pa.table(
                    {"clip_id": names, "status": ["ok"] * rows, "reason": empty, "detail": empty}
                )
                pq.write_table(verdicts, out / "episodes" / f"{clips.key}.parquet")
        if stage.name == "backbone":
            from mimix_core.wan.model_registry import TINY

            for name in TINY.components:
                (out / name).mkdir()
                row = tables.ok(
                    component=name, backbone="stub", folder=name, sha256=name, parameters=0
                )
                table.append(row)
        tables.write(out / Store.TABLE, stage.table, table, stage_key=key)
        record_ = StageRecord(
            stage=stage.name,
            version=stage.version,
            unit=stage.unit(inputs),
            key=key,
            counts=Counts(rows_in=rows, ok=rows, rejected=0, failed=0),
            reasons={},
            notes=dict.fromkeys(NOTES, 0),
            seconds=0.0,
            peak_rss_mb=0,
        )
        return Store(asked.store).commit(record_, out)


class Watch:
    """Wall and CPU seconds, and resident memory at the end of each stage."""

    def __init__(self) -> None:
        self.started, self.cpu = time.monotonic(), time.process_time()
        self.rss: list[float] = []

    def stage(self) -> None:
        gc.collect()
        self.rss.append(_status_mb("self", "VmRSS"))

    def figures(self, run: Any) -> dict[str, float]:
        from tasks import base

        return {
            "seconds": time.monotonic() - self.started,
            "cpu_seconds": time.process_time() - self.cpu,
            "rss_mb": self.rss[-1],
            "rss_growth_mb": self.rss[-1] - self.rss[1],
            "units": float(sum(line.units for line in run.console.finished_stages)),
            "workers": float(run.workspace.config.run.max_workers),
            "progress_seconds": base.PROGRESS_SECONDS,
        }


def part(name: str, settings: Path) -> dict[str, float]:
    """One part, in this process: ``plain``, ``prefect`` or ``updates``."""
    from flows import prefect_environment

    prefect_environment.configure_prefect()
    from prefect import flow
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    from flows.mimix import mimix_stages
    from flows.session import flow_session
    from mimix_core.engine import registry
    from mimix_core.engine.artifacts import FrozenModel, TableRef
    from mimix_core.project.workspace import open_workspace
    from mimix_core.settings import load_config
    from tasks import base

    config = load_config(settings)
    for stage_name in registry.stage_names():
        registry.get_stage(stage_name)  # what importing it takes is nobody's growth
    stub_stages()
    watch = Watch()

    class Watched(base.Run):
        def _record_totals(self, *words: Any) -> None:
            super()._record_totals(*words)
            watch.stage()

    class Plain(Watched):
        """The same units, without Prefect."""

        def run_units(
            self, task: Any, inputs: Sequence[FrozenModel], settings: FrozenModel
        ) -> list[TableRef]:
            stage = registry.get_stage(str(task.name))
            works = [self._build_unit(stage, one, settings) for one in inputs]
            for work in works:
                self.workspace.store.lookup(work.stage, work.key)
            with ThreadPoolExecutor(self.workspace.config.run.max_workers) as pool:
                refs = list(pool.map(base.run_unit, works))
            for ref in refs:
                self.workspace.store.lookup(ref.stage, ref.key)
            self._record_totals(stage.name, refs, len(refs), 0.0)
            return refs

    if name == "plain":
        run = Plain(open_workspace(config))
        mimix_stages(run)
        return watch.figures(run)

    if name == "updates":

        @flow
        def update() -> float:
            artifact = create_progress_artifact(0.0, description="clips an episode")
            assert isinstance(artifact, UUID)
            started = time.process_time()
            for step in range(UPDATES):
                update_progress_artifact(artifact, 100.0 * step / UPDATES)
            return (time.process_time() - started) / UPDATES

        return {"update_cpu_seconds": update()}

    @flow(name="mimix")
    def whole() -> base.Run:
        with flow_session(config, "mimix") as opened:
            # Its console and references: what the session leaves in the UI is part of the cost.
            run = Watched(opened.workspace, opened.console, opened.refs)
            mimix_stages(run)
            return run

    return watch.figures(whole())


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(part(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
