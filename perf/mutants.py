"""Mutation testing: which small changes of the code does no test notice?

``python perf/mutants.py [MODULE...]`` copies the committed files to a temporary folder, lets mutmut
change the functions of the modules one mutation at a time, and runs the tests that execute each
changed function. The modules are those where a wrong number would go unnoticed by a person. Results
go to perf/results/mutants.json, survivors with their reasons to perf/results/mutants_survived.md.

Statements that only raise an error are not mutated: their text is for people.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perf.record import RESULTS, ROOT, record

TESTS = {
    "stages/clips/planning": ["tests/stages/clips/test_planning.py"],
    "stages/scenes/frame_distances": ["tests/stages/scenes/test_frame_distances.py"],
    "stages/scenes/gradual_transitions": ["tests/stages/scenes/test_frame_distances.py"],
    "stages/scenes/contrast_dissolves": ["tests/stages/scenes/test_frame_distances.py"],
    "stages/cutouts/mask_quality": ["tests/stages/cutouts/test_mask_quality.py"],
    "stages/composites/placement": [
        "tests/stages/composites/test_placement.py",
        "tests/stages/composites/test_ground.py",
    ],
    "wan/flow_matching": ["tests/wan/test_flow_matching.py"],
    "domain/splits": ["tests/domain/test_splits.py", "tests/stages/dataset"],
    "vlm/cost_ledger": ["tests/vlm/test_cost_ledger.py"],
}
"""The modules that are mutated, and the tests that are to notice."""

REASONS = RESULTS / "mutants_reasons.json"
"""By mutant, or by function: why the survival is accepted, written by hand."""

CONFIGURATION = """

[tool.mutmut]
source_paths = ["mimix_core"]
only_mutate = {modules}
also_copy = ["tasks", "flows", "demo", "deployments", "docs", "perf"]
do_not_mutate_patterns = ['^\\s*raise\\b', 'report_progress']
pytest_add_cli_args = ["-p", "no:cacheprovider", "-m", "not e2e and not drill"]
pytest_add_cli_args_test_selection = {tests}
"""

STATUSES = {0: "survived", 1: "killed", 3: "killed", 5: "no tests", 33: "no tests", 34: "skipped"}
"""mutmut's exit codes; all others are time-outs and crashes, which a person would notice."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", choices=[[], *TESTS], help="Only these modules.")
    parser.add_argument("--children", type=int, default=os.cpu_count(), help="Tests at a time.")
    given = parser.parse_args()
    chosen = given.modules or list(TESTS)
    with tempfile.TemporaryDirectory(prefix="mimix-mutants-") as folder:
        copy = Path(folder, "checkout")
        copy_checkout(copy)
        statuses: dict[str, str] = {}
        survivors: dict[str, str] = {}
        for module in chosen:
            found = run_mutmut(copy, module, given.children)
            survivors |= {
                name: difference(copy, name) for name, s in found.items() if s == "survived"
            }
            statuses |= found
            print(module, dict(Counter(found.values())), flush=True)
    save(chosen, statuses, survivors)


def copy_checkout(target: Path) -> None:
    """Copy all files that git tracks; the demo's footage is linked, not copied."""
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, path)


def run_mutmut(copy: Path, module: str, children: int) -> dict[str, str]:
    """Run all mutants of one module; the status of each by its name."""
    shutil.rmtree(copy / "mutants", ignore_errors=True)
    settings = (ROOT / "pyproject.toml").read_text()
    path = f"mimix_core/{module}.py"
    settings += CONFIGURATION.format(modules=[path], tests=TESTS[module])
    (copy / "pyproject.toml").write_text(settings)
    done = subprocess.run(
        [mutmut(), "run", "--max-children", str(children)],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    meta = copy / "mutants" / f"{path}.meta"
    if done.returncode != 0 or not meta.exists():
        raise SystemExit(f"mutmut failed on {module}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    codes = json.loads(meta.read_text())["exit_code_by_key"]
    return {name: STATUSES.get(code, "timeout or crash") for name, code in codes.items()}


def mutmut() -> str:
    """The program beside this Python."""
    return str(Path(sys.executable).with_name("mutmut"))


def difference(copy: Path, name: str) -> str:
    """The changed lines of a mutant."""
    shown = subprocess.run(
        [mutmut(), "show", name], cwd=copy, capture_output=True, text=True, check=False
    ).stdout
    lines = [
        line for line in shown.splitlines() if re.match(r"[-+][^-+]", line) or line in ("-", "+")
    ]
    return "\n".join(lines)


def save(modules: list[str], statuses: dict[str, str], survivors: dict[str, str]) -> None:
    """Write scores by module, and the survivors with the reasons that are known.

    Figures and survivors of other modules stay as they were.
    """
    result = RESULTS / "mutants.json"
    figures: dict[str, float] = json.loads(result.read_text())["figures"] if result.exists() else {}
    for module in modules:
        prefix = f"mimix_core.{module.replace('/', '.')}."
        counts = Counter(s for name, s in statuses.items() if name.startswith(prefix))
        tried = sum(counts.values()) - counts["skipped"]
        noticed = counts["killed"] + counts["timeout or crash"]
        key = module.rsplit("/", maxsplit=1)[-1]
        figures[f"{key}_mutants"] = tried
        figures[f"{key}_score"] = round(noticed / tried, 3) if tried else 1.0
    units = {name: "share noticed" if name.endswith("score") else "mutants" for name in figures}
    note = "Mutants that the module's tests notice; modules are measured one by one."
    print(record("mutants", figures, units, note=note))
    page = RESULTS / "mutants_survived.md"
    changes = read_survivors(page) if page.exists() else {}
    prefixes = tuple(f"mimix_core.{module.replace('/', '.')}." for module in modules)
    changes = {name: text for name, text in changes.items() if not name.startswith(prefixes)}
    reasons = json.loads(REASONS.read_text()) if REASONS.exists() else {}
    lines = ["# Mutants that survive", ""]
    for name, changed in sorted((changes | survivors).items()):
        reason = reasons.get(name) or reasons.get(name.split("__mutmut_")[0], "not looked at")
        lines += [f"**{name}**: {reason}", "", "```diff", changed, "```", ""]
    page.write_text("\n".join(lines))


def read_survivors(page: Path) -> dict[str, str]:
    """Read the changed lines of each mutant from the page."""
    sections = re.findall(r"^\*\*(\S+)\*\*:.*?^```diff\n(.*?)\n```$", page.read_text(), re.S | re.M)
    return dict(sections)


if __name__ == "__main__":
    main()
