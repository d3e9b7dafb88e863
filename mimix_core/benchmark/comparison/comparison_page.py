"""The comparison as a folder: a page, the same tables as CSV and LaTeX, and the videos."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mimix_core.benchmark.comparison import comparison_charts
from mimix_core.benchmark.comparison.comparison_charts import Trace, tone
from mimix_core.benchmark.comparison.video_grid import FOLDER, matches
from mimix_core.benchmark.systems import System
from mimix_core.benchmark.tables.breakdowns import per_styles
from mimix_core.benchmark.tables.load_results import Evidence
from mimix_core.benchmark.tables.row_builders import MULTIPLE, SINGLE, cells, measured, subjects
from mimix_core.benchmark.tables.table_export import as_csv, as_latex
from mimix_core.benchmark.tables.table_model import Line, Sheet
from mimix_core.errors import BadInput

PAGE = "index.html"

SIGNATURE = "Made by MiMix (mimix bench report)"
"""In each page's footer: what has it may be written anew."""


@dataclass(frozen=True)
class Chart:
    """A drawing and what stands above it."""

    title: str
    drawing: Markup


def write(
    evidence: Evidence, systems: Sequence[System], sheets: Sequence[Sheet], out: Path
) -> Path:
    """Write the whole comparison into the folder ``out`` and return its page.

    The same evidence gives the same bytes. Raises BadInput when ``out`` holds anything that no
    comparison wrote, or the videos of a system.
    """
    for system in systems:
        if system.folder.resolve().is_relative_to(out.resolve()):
            raise BadInput(
                f"the videos of {system.name} lie in it, and writing it would remove them",
                where=str(out),
                fix="Name another folder.",
            )
    _clear(out)
    out.mkdir(parents=True, exist_ok=True)
    for sheet in sheets:
        (out / f"{sheet.key}.csv").write_text(as_csv(sheet), encoding="utf-8")
        (out / f"{sheet.key}.tex").write_text(as_latex(sheet), encoding="utf-8")
    page = out / PAGE
    page.write_text(render(view(evidence, systems, sheets, out)), encoding="utf-8")
    return page


def view(
    evidence: Evidence, systems: Sequence[System], sheets: Sequence[Sheet], out: Path
) -> dict[str, Any]:
    """What the template shows. Copies the videos below ``out``."""
    columns = measured(evidence)
    prompts = evidence.prompts
    styles = {home.name: home.style.value for home in prompts.cast}
    return {
        "title": " and ".join([", ".join(evidence.systems[:-1]), evidence.systems[-1]])
        if len(evidence.systems) > 1
        else evidence.systems[0],
        "systems": [(name, tone(number)) for number, name in enumerate(evidence.systems)],
        "version": prompts.version,
        "subjects": {name: len(ids) for name, ids in subjects(evidence).items()},
        "judge": evidence.judge,
        "papers": _shown([sheet for sheet in sheets if sheet.key.startswith("table-")]),
        "more": _shown([sheet for sheet in sheets if not sheet.key.startswith("table-")]),
        "radars": [chart for name in (SINGLE, MULTIPLE) for chart in _radar(evidence, name)],
        "bars": _bars(evidence),
        "style_bars": _style_bars(evidence),
        "gaps": _gaps(evidence),
        "left_out": sorted(evidence.left_out.items()),
        "absent": list(evidence.absent.items()),
        "strays": list(evidence.strays.items()),
        "measured": _how(evidence),
        "matches": matches(evidence, systems, columns, out),
        "categories": sorted({prompt.category for prompt in prompts.prompts}),
        "characters": sorted({name for prompt in prompts.prompts for name in prompt.characters}),
        "styles": styles,
    }


def render(values: Mapping[str, Any]) -> str:
    """The page as HTML: style and script inside, every text escaped, videos beside it."""
    static = resources.files("mimix_core.benchmark.comparison") / "static"
    report = resources.files("mimix_core.stages.report") / "static"
    style = (report / "page.css").read_text(encoding="utf-8")
    style += (static / "comparison.css").read_text(encoding="utf-8")
    script = (static / "comparison.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("mimix_core.benchmark.comparison"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("comparison.html").render(
        **values,
        signature=SIGNATURE,
        style=Markup(style),
        script=Markup(script),
        script_digest=digest,
    )


@dataclass(frozen=True)
class Shown:
    """A sheet on the page, and those of its notes that no sheet above it has."""

    sheet: Sheet
    best: frozenset[tuple[int, int]]
    notes: tuple[str, ...]


def _shown(sheets: Sequence[Sheet]) -> list[Shown]:
    told: set[str] = set()
    found = []
    for sheet in sheets:
        found.append(
            Shown(sheet, sheet.best(), tuple(note for note in sheet.notes if note not in told))
        )
        told.update(sheet.notes)
    return found


def _clear(out: Path) -> None:
    """Remove an earlier comparison, so that no table of it stands beside the new ones."""
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not _ours(out / PAGE)):
        raise BadInput("is there, and holds no comparison", where=str(out), fix="Name a new one.")
    for path in sorted(out.iterdir()):
        if path.name == FOLDER and path.is_dir():
            shutil.rmtree(path)
        elif path.suffix in (".csv", ".tex") or path.name == PAGE:
            path.unlink()


def _ours(page: Path) -> bool:
    """Whether a comparison wrote this page."""
    return page.is_file() and SIGNATURE.encode() in page.read_bytes()


def _how(evidence: Evidence) -> str:
    """How there came to be values, in words; empty where there are none."""
    measured_ = any(not metric.startswith("judge/") for metric in evidence.metrics())
    rated = evidence.judge is not None or bool(evidence.duels)
    ways = (("measured", measured_), ("judged by a model", rated))
    return " and ".join(way for way, taken in ways if taken)


def _radar(evidence: Evidence, subject: str) -> list[Chart]:
    ids = subjects(evidence)[subject]
    columns = measured(evidence)
    traces = [
        Trace(system, tone(number), cells(evidence, system, columns, ids))
        for number, system in enumerate(evidence.systems)
    ]
    drawing = comparison_charts.radar(columns, traces, f"Radar of all measures, {subject.lower()}")
    return [Chart(f"{subject} ({len(ids)} prompts)", drawing)] if drawing else []


def _bars(evidence: Evidence) -> list[Chart]:
    """A chart a measure: one and several characters, a bar a system."""
    found = []
    for column in measured(evidence):
        groups = [
            (
                subject,
                [
                    Trace(system, tone(number), cells(evidence, system, [column], ids))
                    for number, system in enumerate(evidence.systems)
                ],
            )
            for subject, ids in subjects(evidence).items()
            if ids
        ]
        found.append(Chart(column.title, comparison_charts.bars(column, groups, column.title)))
    return found


def _style_bars(evidence: Evidence) -> list[Chart]:
    """A chart for each of the judge's measures: a group of bars a style pair."""
    sheet = per_styles(evidence)
    tones = {system: tone(number) for number, system in enumerate(evidence.systems)}
    found = []
    for place, column in enumerate(sheet.columns):
        if column.kind != "Judge":
            continue
        groups: dict[str, list[Trace]] = {}
        for line in sheet.lines:
            groups.setdefault(line.labels[1], []).append(_one(line, place, tones))
        title = f"{column.title} by style pair"
        found.append(
            Chart(column.title, comparison_charts.bars(column, list(groups.items()), title))
        )
    return found


def _one(line: Line, place: int, tones: Mapping[str, int]) -> Trace:
    return Trace(line.labels[0], tones[line.labels[0]], (line.cells[place],))


def _gaps(evidence: Evidence) -> list[tuple[str, str, str, int]]:
    """System, metric and reason of what is missing, and of how many prompts."""
    counted = Counter((gap.system, gap.metric, gap.why) for gap in evidence.gaps)
    order = {name: number for number, name in enumerate(evidence.systems)}
    return [
        (*key, count)
        for key, count in sorted(counted.items(), key=lambda item: (order[item[0][0]], item[0]))
    ]
