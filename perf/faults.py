"""Let accidents happen to runs of the demo, and crashes to everything that writes files.

``python perf/faults.py --drills 100 --seed 1`` runs a small part of the demo once undisturbed, and
then again and again: each time some of its results are missing, and one accident of
tests/faults/accidents.py happens at a random moment. The same command is run again, and the tables
must be those of the undisturbed run. A seed makes one drill: ``--drills 1 --seed N --dry`` repeats
it. Drills whose seeds follow the recorded ones are added to them.

``--crash-points`` instead tries all writers of tests/faults/scenarios.py at each point at which the
machine may stop. Both write their figures to perf/results/faults.json and exit with 1 if anything
was lost; ``--dry`` writes nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perf.record import RESULTS, record
from tests.e2e.demo import Demo
from tests.e2e.short_demo import write_short_demo
from tests.faults.accidents import Outcome, compile_shim, drill, possible_accidents
from tests.faults.crash_points import find_strace, try_scenario
from tests.faults.scenarios import SCENARIOS

STAGES = (
    *("scenes", "overlays", "clips", "transcripts", "captions", "cutouts", "composites"),
    *("dataset", "latents", "embeddings", "lora", "videos", "scores", "report"),
)
UNITS = {
    "drills": "accidents at random moments",
    "kinds": "kinds of accident",
    "first_seed": "of the drills, one each",
    "lost_rows": "tables missing or too many after the run was started again",
    "wrong_digests": "tables that differ from the undisturbed run",
    "other_problems": "runs that hang or fail again, files left or damaged",
    "minutes": "min of drills",
    "writers": "writers of files",
    "crash_points": "calls behind which the machine may stop",
    "crash_states": "states of the disk that were read",
    "fuzz_minutes": "min, by perf/fuzz.py",
    "bad_states": "states that were neither the old nor the new one, or less than promised",
}
FUZZ = RESULTS / "fuzz.json"
NOTE = (
    "Drills: kills, stopped processes, failing calls (EIO, ENOSPC, EDQUOT), full and read-only "
    "disks, damaged results, two runs, moved workspaces, wrong clocks."
)


def run_drills(folder: Path, drills: int, seed: int, seconds: float, jobs: int) -> list[Outcome]:
    """Make the undisturbed run, then a drill for each seed, ``jobs`` at a time, until the time is
    over.
    """
    (folder / "undisturbed").mkdir()
    demo = Demo(folder / "undisturbed", settings=write_short_demo(folder / "undisturbed"))
    _, took = demo.run()
    expected = demo.digests()
    shim = compile_shim(folder)
    say(f"undisturbed: {len(expected)} tables in {took:.0f} s")
    begun = time.monotonic()

    def try_seed(number: int) -> Outcome | None:
        if time.monotonic() - begun > seconds:
            return None
        place = folder / f"drill-{number}"
        outcome = drill(demo, expected, place, number, shim, STAGES, took)
        problems = "".join(f"\n    {problem}" for problem in outcome.problems)
        say(f"{outcome.seed} {outcome.accident}: {outcome.what}{problems}")
        if not outcome.problems:
            shutil.rmtree(place)
        return outcome

    # Threads suffice: the work is done by the runs, which are processes of their own.
    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(pool.map(try_seed, range(seed, seed + drills)))
    return [outcome for outcome in outcomes if outcome is not None]


def drill_figures(outcomes: list[Outcome], seed: int, minutes: float) -> dict[str, float]:
    """Count what was lost."""
    problems = Counter(
        "wrong_digests"
        if "another table" in problem
        else "lost_rows"
        if problem.endswith((" is lost", " is one too many"))
        else "other_problems"
        for outcome in outcomes
        for problem in outcome.problems
    )
    return {
        "drills": len(outcomes),
        "kinds": len({outcome.accident for outcome in outcomes}),
        "first_seed": seed,
        "minutes": round(minutes, 1),
        **{name: problems[name] for name in ("lost_rows", "wrong_digests", "other_problems")},
    }


def continued(before: Mapping[str, float], found: Mapping[str, float]) -> dict[str, float]:
    """Add drills to recorded ones if their seeds follow those, else return them alone."""
    if found["first_seed"] != before.get("first_seed", 0) + before.get("drills", 0):
        return dict(found)
    sums = {name: before[name] + found[name] for name in found if name != "minutes"}
    return sums | {
        "first_seed": before["first_seed"],
        "kinds": max(before["kinds"], found["kinds"]),
        "minutes": round(before["minutes"] + found["minutes"], 1),
    }


def crash_figures(folder: Path) -> dict[str, float]:
    """Try all writers."""
    if not find_strace():
        sys.exit("strace is needed: apt install strace")
    points = states = bad = 0
    for name, scenario in SCENARIOS.items():
        (folder / name).mkdir()
        trial = try_scenario(scenario, folder / name)
        assert trial.model_is_exact, f"the calls of {name} do not explain its files"
        say(f"{name}: {trial.points} points, {trial.states} states, {len(trial.bad)} bad")
        for problem, times in Counter(trial.bad).most_common(5):
            say(f"    {times} times {problem}")
        points, states = points + trial.points, states + trial.states
        bad += len(trial.bad)
    return {
        "writers": len(SCENARIOS),
        "crash_points": points,
        "crash_states": states,
        "bad_states": bad,
    }


def say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--drills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no drill after them")
    parser.add_argument("--seed", type=int, default=1, help="of the first drill")
    parser.add_argument("--jobs", type=int, default=1, help="drills at the same time")
    parser.add_argument("--crash-points", action="store_true")
    parser.add_argument("--dry", action="store_true", help="do not write perf/results")
    parser.add_argument("--folder", type=Path, help="a new folder, kept with what failed")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="mimix-faults-"))
    folder.mkdir(exist_ok=True)
    if options.crash_points:
        found = crash_figures(folder)
        bad = bool(found["bad_states"])
    else:
        say(f"{len(possible_accidents(compile_shim(folder)))} kinds of accident are possible here")
        begun = time.monotonic()
        limit = 60 * options.minutes
        outcomes = run_drills(folder, options.drills, options.seed, limit, options.jobs)
        found = drill_figures(outcomes, options.seed, (time.monotonic() - begun) / 60)
        bad = any(outcome.problems for outcome in outcomes) or not outcomes
    say(str(found))
    if not options.dry:
        path = RESULTS / "faults.json"
        before = json.loads(path.read_text())["figures"] if path.exists() else {}
        figures = {**before, **(found if options.crash_points else continued(before, found))}
        figures["fuzz_minutes"] = json.loads(FUZZ.read_text())["figures"]["fuzz_minutes"]
        record("faults", figures, {name: UNITS[name] for name in figures}, NOTE)
    if not bad and options.folder is None:
        shutil.rmtree(folder)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
