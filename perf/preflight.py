"""Measure how soon a damaged model folder is refused, before any work.

``python perf/preflight.py`` damages the folder of the small random Wan in every way that
tests/wan/test_model_folder.py lists, runs ``mimix train`` on it in a new process each time, and
checks that it ends with exit code 2, one message and no traceback. It also times the check alone
on an intact folder of Wan2.1-T2V-14B (true headers, weights that are holes). Writes
perf/results/preflight.json and exits with 1 if anything was not refused.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.wan.model_folder import check_backbone_folder
from mimix_core.wan.model_registry import get_backbone
from perf.record import ROOT, record
from tests.diagnostics.test_preflight import published_project
from tests.wan.folder_damage import split_transformer
from tests.wan.published_folder import published_folder
from tests.wan.published_tiny import BACKBONE
from tests.wan.test_model_folder import DAMAGES

UNITS = {
    "kinds": "kinds of damage",
    "not_refused": "kinds that were not refused, or with a traceback",
    "median_seconds": "s from the start of `mimix train` to its exit",
    "slowest_seconds": "s of the slowest kind",
    "check_14b_seconds": "s of the check alone on an intact folder of the 14B",
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as name:
        work = Path(name)
        large = get_backbone("wan2.1-t2v-14b")
        folder = published_folder(work / "14b", large)
        started = time.monotonic()
        check_backbone_folder(folder, large)
        check_seconds = time.monotonic() - started
        whole = _build(work / "whole")
        seconds, wrong = {}, []
        for kind, (spoil, _, _) in DAMAGES.items():
            project = work / "project"
            settings = published_project(project, BACKBONE.name)
            shutil.copytree(whole, project / "wan")
            spoil(project / "wan")
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "flows.cli", "train", str(settings)],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
            seconds[kind] = time.monotonic() - started
            started_work = (project / "workspace").exists()
            if done.returncode != 2 or "Traceback" in done.stderr + done.stdout or started_work:
                wrong.append(kind)
                print(f"{kind}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
            shutil.rmtree(project)
    ordered = sorted(seconds, key=seconds.__getitem__)
    figures = {
        "kinds": float(len(seconds)),
        "not_refused": float(len(wrong)),
        "median_seconds": round(seconds[ordered[len(ordered) // 2]], 2),
        "slowest_seconds": round(seconds[ordered[-1]], 2),
        "check_14b_seconds": round(check_seconds, 2),
    }
    record("preflight", figures, UNITS, note=f"Slowest: {ordered[-1]}.")
    print(figures, "slowest:", ordered[-1])
    return 1 if wrong else 0


def _build(folder: Path) -> Path:
    from mimix_core.wan.random_backbone import build_random_backbone

    build_random_backbone(0, folder)
    split_transformer(folder)
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
