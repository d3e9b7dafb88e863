"""Fuzz everything that comes from strangers: ``tests/fuzz`` for as long as one likes.

``python perf/fuzz.py --minutes 10 --seed 1`` reads spoilt inputs for 10 minutes per target, each in
a process that is watched: MiMix accepts an input or refuses it with its own error, within 5 seconds
of processor time and 1 GB of memory. Each finding is printed with a small input that shows it,
which is saved below ``--findings``. Writes perf/results/fuzz.json, unless only some targets run or
``--dry`` is given, and exits with 1 if there are findings.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perf.record import record
from tests.fuzz.campaign import Campaign, minimize, run_campaign
from tests.fuzz.targets import TARGET_NAMES, get_target
from tests.fuzz.watch import Watch

INPUTS_PER_CAMPAIGN = 1000
MINIMIZE_SECONDS = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="Minutes of each target.")
    parser.add_argument("--seed", type=int, default=1, help="Of the inputs.")
    parser.add_argument("--jobs", type=int, default=1, help="Targets fuzzed at the same time.")
    parser.add_argument("--target", choices=TARGET_NAMES, action="append", help="Only these.")
    parser.add_argument("--findings", type=Path, help="Folder to save the inputs of findings in.")
    parser.add_argument("--dry", action="store_true", help="Do not record the figures.")
    given = parser.parse_args()
    names = given.target or TARGET_NAMES
    outcomes: dict[str, Campaign] = {}
    minutes = 0.0
    # Processes, since inputs are drawn by this program and take as long as reading them.
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        work = partial(
            fuzz, minutes=given.minutes, first_seed=given.seed, findings_folder=given.findings
        )
        for name, (outcome, took) in zip(names, pool.map(work, names), strict=True):
            outcomes[name] = outcome
            minutes += took
    if not given.dry and not given.target:
        save(minutes, given.seed, outcomes)
    sys.exit(any(outcome.findings for outcome in outcomes.values()))


def fuzz(
    name: str, minutes: float, first_seed: int, findings_folder: Path | None
) -> tuple[Campaign, float]:
    """Fuzz a target, and print what was found. Return the outcome and the minutes it took."""
    target = get_target(name)
    total = Campaign()
    begin = time.monotonic()
    deadline = begin + 60 * minutes
    with Watch() as watch:
        number = 0
        while time.monotonic() < deadline:
            campaign = run_campaign(
                watch,
                target,
                first_seed=1_000_000 * first_seed + number,
                inputs=INPUTS_PER_CAMPAIGN,
                go_on=lambda: time.monotonic() < deadline,
            )
            total.kinds += campaign.kinds
            total.findings = campaign.findings | total.findings
            number += 1
        took = (time.monotonic() - begin) / 60
        print(f"{name}: {total.inputs} inputs, {dict(total.kinds)}", flush=True)
        for place, (data, verdict) in total.findings.items():
            small = minimize(watch, target, data, place, seconds=MINIMIZE_SECONDS)
            print(f"  {verdict.kind}: {place}\n  {small[:500]!r}\n{verdict.text}", flush=True)
            if findings_folder is not None:
                findings_folder.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256(small).hexdigest()[:12]
                (findings_folder / f"{name}-{digest}").write_bytes(small)
    return total, took


def save(minutes: float, first_seed: int, outcomes: dict[str, Campaign]) -> None:
    kinds = sum((outcome.kinds for outcome in outcomes.values()), Counter[str]())
    figures: dict[str, float] = {
        "fuzz_minutes": round(minutes, 1),
        "seed": first_seed,
        "targets": len(outcomes),
        "findings": sum(len(outcome.findings) for outcome in outcomes.values()),
        "accepted": kinds["accepted"],
        "refused": kinds["refused"],
    }
    units = {
        "fuzz_minutes": "min, of all targets together",
        "seed": "of the inputs",
        "targets": "readers of input from strangers",
        "findings": "inputs neither accepted nor refused with MiMix's own error, by place",
        "accepted": "inputs",
        "refused": "inputs",
    }
    for name, outcome in outcomes.items():
        key = f"inputs_{name.replace('-', '_')}"
        figures[key], units[key] = outcome.inputs, f"spoilt inputs of {name}"
    record("fuzz", figures, units)


if __name__ == "__main__":
    main()
