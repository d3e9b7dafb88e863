"""The convention of all speed scripts: figures go to ``perf/results/NAME.json``.

``{"figures": {name: number}, "units": {name: unit}, "machine": ..., "command": ..., "commit": ...,
"date": ...}``, and a readable table to docs/performance.md between the markers of that name.
Ratios are measured in one run, on one machine. Where parts of a script run by themselves,
``"measured"`` has the date and commit of each figure instead.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "perf" / "results"
PAGE = ROOT / "docs" / "performance.md"


def machine() -> str:
    """Cores, memory and processor, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {model}, Python {platform.python_version()}"


def commit() -> str:
    """The commit measured; ``+`` when the tree had changes.

    Where a copy of the tree has no history, ``MEASURED_COMMIT`` says what it was copied from.
    """
    if not (ROOT / ".git").exists():
        return os.environ["MEASURED_COMMIT"]
    head = _git("rev-parse", "--short", "HEAD")
    return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def record(
    name: str,
    figures: dict[str, float],
    units: dict[str, str],
    note: str = "",
    measured_on: str | None = None,
    measured: Mapping[str, str] | None = None,
) -> Path:
    """Write the figures, and their table into docs/performance.md. Gives the JSON's path.

    ``measured_on``: the machine, when it is not this one. ``measured``: date and commit of each
    figure, when not all are of this run.

    Raises ValueError when a figure has no unit.
    """
    missing = sorted(set(figures) - set(units))
    if missing:
        raise ValueError(f"figures without a unit: {missing}")
    result: dict[str, object] = {
        "figures": figures,
        "units": units,
        "machine": measured_on or machine(),
        "command": " ".join(["python", *(os.path.relpath(a, ROOT) for a in sys.argv[:1])]),
    }
    if measured is None:
        result |= {
            "commit": commit(),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }
    else:
        result["measured"] = {figure: measured[figure] for figure in figures}
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    _update_page(name, result, note)
    return path


def update(
    name: str,
    figures: Mapping[str, float],
    units: dict[str, str],
    note: str,
    measured_on: str,
    dates: Mapping[str, str] | None = None,
) -> Path:
    """Write figures beside those of earlier runs, which keep their date and commit; see ``record``.

    ``units``: of all figures that are defined; others of earlier runs are dropped. ``dates``: days
    of figures that were not measured today.
    """
    before = json.loads((RESULTS / f"{name}.json").read_text())
    today, commit_now = datetime.datetime.now(datetime.UTC).date().isoformat(), commit()
    values = before["figures"] | {key: round(value, 6) for key, value in figures.items()}
    measured = before["measured"] | {
        key: f"{(dates or {}).get(key, today)}, commit {commit_now}" for key in figures
    }
    defined = [key for key in units if key in values]
    return record(
        name,
        {key: values[key] for key in defined},
        {key: units[key] for key in defined},
        note,
        measured_on,
        measured,
    )


def value_at(found: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    """Return the number at these nested keys; None: there is none."""
    value: Any = found
    for key in keys:
        if key not in value:
            return None
        value = value[key]
    return float(value)


def figure_table(result: Mapping[str, Any]) -> str:
    """Format the figures of a result as a Markdown table: name, value, unit, and date if several.

    ``result`` is the content of one of the files that ``record`` writes.
    """
    rows = {
        key: f"| {key.replace('_', ' ')} | {value:g} | {result['units'][key]} |"
        for key, value in result["figures"].items()
    }
    measured = result.get("measured")
    if measured is None:
        return "\n".join(["| figure | value | unit |", "| --- | ---: | --- |", *rows.values()])
    dated = [f"{row} {measured[key]} |" for key, row in rows.items()]
    head = ["| figure | value | unit | measured |", "| --- | ---: | --- | --- |"]
    return "\n".join([*head, *dated])


def _update_page(name: str, result: Mapping[str, Any], note: str) -> None:
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    said = f"{note}\n\n" if note else ""
    of_run = f" {result['date']}, commit {result['commit']}," if "date" in result else ""
    head = f"{said}`{result['command']}`,{of_run} {result['machine']}"
    table = f"{begin}\n{head}\n\n{figure_table(result)}\n{end}"
    page = PAGE.read_text() if PAGE.exists() else "# Performance\n"
    if begin in page:
        head, rest = page.split(begin, 1)
        page = head + table + rest.split(end, 1)[1]
    else:
        page = f"{page.rstrip()}\n\n## {name}\n\n{table}\n"
    PAGE.write_text(page)
