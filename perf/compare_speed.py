"""Compare the speed of two checkouts: the same scripts of perf/ in each, taking turns.

``python perf/compare_speed.py OLD NEW [--rounds 2] [--scripts captions ...]`` runs perf/curate.py
(its part ``floor``), perf/captions.py, perf/composites.py and perf/orchestration.py in the two
checkouts, each with its own virtual environment (``make setup``), and records for each figure the
ratio NEW / OLD: its median over the rounds, and the smallest and the largest.

Nothing else should run on the machine. The checkouts' own records are restored afterwards; figures
of scripts that did not run stay as they were.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perf.record import RESULTS, record

SCRIPTS = {
    "curate": ("perf/curate.py", "floor"),
    "captions": ("perf/captions.py",),
    "composites": ("perf/composites.py",),
    "orchestration": ("perf/orchestration.py",),
}
FIGURES = {
    "curate": ("scenes_seconds", "scenes_cpu_seconds", "clips_seconds", "clips_cpu_seconds"),
    "captions": (
        "seconds_limited",
        "seconds_unlimited",
        "questions_per_second",
        "cached_answers_per_second",
        "peak_rss_gb_52k",
    ),
    "composites": (
        "ratio_to_ffmpeg_overlay",
        "cpu_ratio_to_ffmpeg_overlay",
        "camera_cpu_seconds",
        "plan_cpu_seconds",
    ),
    "orchestration": ("ms_per_unit", "database_mb", "client_rss_growth_mb", "own_seconds"),
}
HIGHER_IS_BETTER = {"questions_per_second", "cached_answers_per_second"}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--scripts", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    options = parser.parse_args()
    ratios: dict[str, list[float]] = {}
    for script in options.scripts:
        for _ in range(options.rounds):
            old = _run(options.old.resolve(), script)
            new = _run(options.new.resolve(), script)
            for key in FIGURES[script]:
                ratio = old[key] / new[key] if key in HIGHER_IS_BETTER else new[key] / old[key]
                ratios.setdefault(f"{script}_{key}", []).append(ratio)
                print(
                    f"{script} {key}: {old[key]:g} -> {new[key]:g}, ratio {ratio:.3f}", flush=True
                )
    result = RESULTS / "compare_speed.json"
    before = json.loads(result.read_text()) if result.exists() else {"figures": {}, "units": {}}
    figures = before["figures"] | {
        key: round(statistics.median(found), 3) for key, found in ratios.items()
    }
    units = before["units"] | {
        key: f"new / old, {options.rounds} pairs from {min(found):.3f} to {max(found):.3f}"
        for key, found in ratios.items()
    }
    names = f"Old: {_head(options.old)}. New: {_head(options.new)}. Below 1 is faster or smaller."
    print(record("compare_speed", figures, units, names).read_text())
    return 0


def _run(checkout: Path, script: str) -> Mapping[str, float]:
    """Run a script of a checkout and return its figures; the checkout is left as it was."""
    command = [str(checkout / ".venv" / "bin" / "python"), *SCRIPTS[script]]
    subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
    figures: dict[str, float] = json.loads(
        (checkout / "perf" / "results" / f"{script}.json").read_text()
    )["figures"]
    subprocess.run(
        ["git", "checkout", "-q", "--", "perf/results", "docs/performance.md"],
        cwd=checkout,
        check=True,
    )
    return figures


def _head(checkout: Path) -> str:
    words = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        words, cwd=checkout, capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
