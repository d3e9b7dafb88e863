"""What the demo costs: seconds and peak memory per stage, cold and warm.

``python perf/demo.py`` runs the demo in a workspace of its own, as a person would: with nothing
there, with everything there, and with everything there beside a running Prefect server.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.engine.registry import stage_names
from mimix_core.engine.store import Store
from perf.record import ROOT, record
from tests.e2e.demo import prefect_server


def main() -> None:
    for script, folder in (("footage", "footage"), ("models", "models")):
        subprocess.run(
            [sys.executable, f"demo/{script}.py", f"demo/{folder}"], cwd=ROOT, check=True
        )
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as folder:
        cold = _run(Path(folder))
        warm = _run(Path(folder))
        home = Path(folder, "server")
        home.mkdir()
        with prefect_server(home) as url:
            own = _run(Path(folder), {"PREFECT_API_URL": url})
        seconds: defaultdict[str, float] = defaultdict(float)
        peak: defaultdict[str, float] = defaultdict(float)
        for unit in Store(Path(folder, "workspace", "store")).records():
            seconds[unit.stage] += unit.seconds
            peak[unit.stage] = max(peak[unit.stage], unit.peak_rss_mb / 1000)
    figures = {
        "cold_seconds": round(cold, 1),
        "warm_seconds": round(warm, 1),
        "warm_own_seconds": round(own, 1),
    }
    units = {
        "cold_seconds": "s wall, Prefect's start included",
        "warm_seconds": "s wall, Prefect's start included",
        "warm_own_seconds": "s wall, Prefect's server running already",
    }
    for stage in stage_names():
        figures[f"{stage}_seconds"] = round(seconds[stage], 1)
        units[f"{stage}_seconds"] = "s, sum over units"
        figures[f"{stage}_peak_gb"] = round(peak[stage], 2)
        units[f"{stage}_peak_gb"] = "GB resident, largest process"
    path = record(
        "demo",
        figures,
        units,
        "Two units run at the same time, so the stages' seconds add up to more than the wall.",
    )
    print(path.read_text())


def _run(folder: Path, more: Mapping[str, str] = MappingProxyType({})) -> float:
    """One run of the demo, with ``more`` in its environment; gives its wall seconds."""
    environment = {**os.environ, "PREFECT_HOME": str(folder / "prefect"), **more}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.monotonic()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "flows.cli",
            "run",
            "demo/mimix.yaml",
            "--workspace",
            str(folder / "workspace"),
        ],
        cwd=ROOT,
        env=environment,
        check=True,
    )
    return time.monotonic() - started


if __name__ == "__main__":
    main()
