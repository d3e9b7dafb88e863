"""Write a comparison as a folder: a page, its tables as CSV and LaTeX, and the videos."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mimix_core.benchmark.comparison import comparison_charts
from mimix_core.benchmark.comparison.comparison_charts import ChartSeries, system_color
from mimix_core.benchmark.comparison.video_grid import VIDEOS_FOLDER, build_video_grid
from mimix_core.benchmark.systems import System
from mimix_core.benchmark.tables.breakdowns import build_style_table
from mimix_core.benchmark.tables.load_results import BenchmarkResults
from mimix_core.benchmark.tables.row_builders import (
    MULTIPLE,
    SINGLE,
    build_cells,
    group_by_subject,
    measured_columns,
)
from mimix_core.benchmark.tables.table_export import to_csv, to_latex
from mimix_core.benchmark.tables.table_model import ResultTable, TableRow
from mimix_core.errors import BadInput
from mimix_core.html.page_renderer import SHARED_STYLE, render_page

PACKAGE = "mimix_core.benchmark.comparison"

PAGE_NAME = "index.html"

PAGE_SIGNATURE = "Made by MiMix (mimix bench report)"
"""Footer of each page; identifies folders that may be overwritten."""


@dataclass(frozen=True)
class ComparisonChart:
    """A chart and its title."""

    title: str
    svg: Markup


def write_comparison(
    results: BenchmarkResults, systems: Sequence[System], tables: Sequence[ResultTable], out: Path
) -> Path:
    """Write the comparison into the folder ``out`` and return the path of its page.

    The same inputs produce the same bytes. Raises BadInput when ``out`` contains anything but an
    earlier comparison, or the videos of a system.
    """
    for system in systems:
        if system.folder.resolve().is_relative_to(out.resolve()):
            raise BadInput(
                f"contains the videos of {system.name}, which writing would remove",
                where=str(out),
                fix="Specify another folder.",
            )
    _remove_previous_comparison(out)
    out.mkdir(parents=True, exist_ok=True)
    for table in tables:
        (out / f"{table.key}.csv").write_text(to_csv(table), encoding="utf-8")
        (out / f"{table.key}.tex").write_text(to_latex(table), encoding="utf-8")
    page = out / PAGE_NAME
    page.write_text(
        render_comparison(build_comparison_view(results, systems, tables, out)), encoding="utf-8"
    )
    return page


def build_comparison_view(
    results: BenchmarkResults, systems: Sequence[System], tables: Sequence[ResultTable], out: Path
) -> dict[str, Any]:
    """Build the template's variables. Copies the videos below ``out``."""
    columns = measured_columns(results)
    prompts = results.prompts
    styles = {origin.name: origin.style.value for origin in prompts.cast}
    return {
        "title": " and ".join([", ".join(results.systems[:-1]), results.systems[-1]])
        if len(results.systems) > 1
        else results.systems[0],
        "systems": [(name, system_color(number)) for number, name in enumerate(results.systems)],
        "version": prompts.version,
        "subjects": {name: len(ids) for name, ids in group_by_subject(results).items()},
        "judge": results.judge,
        "paper_tables": _build_table_views(
            [table for table in tables if table.key.startswith("table-")]
        ),
        "other_tables": _build_table_views(
            [table for table in tables if not table.key.startswith("table-")]
        ),
        "radar_charts": [
            chart for name in (SINGLE, MULTIPLE) for chart in _radar_charts(results, name)
        ],
        "bar_charts": _bar_charts(results),
        "style_bar_charts": _style_bar_charts(results),
        "missing_values": _count_missing_values(results),
        "ignored_rows": sorted(results.ignored_rows.items()),
        "missing_videos": list(results.missing_videos.items()),
        "unmatched_videos": list(results.unmatched_videos.items()),
        "evaluation": _describe_evaluation(results),
        "grid": build_video_grid(results, systems, columns, out),
        "categories": sorted({prompt.category for prompt in prompts.prompts}),
        "characters": sorted({name for prompt in prompts.prompts for name in prompt.characters}),
        "styles": styles,
    }


def render_comparison(values: Mapping[str, Any]) -> str:
    """Render the page as HTML with inlined style and script; it links to the videos."""
    return render_page(
        PACKAGE,
        "comparison.html",
        {**values, "signature": PAGE_SIGNATURE},
        styles=(SHARED_STYLE, (PACKAGE, "comparison.css")),
        script="comparison.js",
    )


@dataclass(frozen=True)
class TableView:
    """A table on the page, with the notes that no earlier table has."""

    table: ResultTable
    best_cells: frozenset[tuple[int, int]]
    notes: tuple[str, ...]


def _build_table_views(tables: Sequence[ResultTable]) -> list[TableView]:
    seen: set[str] = set()
    views = []
    for table in tables:
        notes = tuple(note for note in table.notes if note not in seen)
        views.append(TableView(table, table.best_cells(), notes))
        seen.update(table.notes)
    return views


def _remove_previous_comparison(out: Path) -> None:
    """Remove an earlier comparison, so that its tables do not mix with the new ones."""
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not _is_comparison_page(out / PAGE_NAME)):
        raise BadInput(
            "exists and does not contain a comparison", where=str(out), fix="Specify a new folder."
        )
    for path in sorted(out.iterdir()):
        if path.name == VIDEOS_FOLDER and path.is_dir():
            shutil.rmtree(path)
        elif path.suffix in (".csv", ".tex") or path.name == PAGE_NAME:
            path.unlink()


def _is_comparison_page(page: Path) -> bool:
    """Check whether the page was written by a comparison."""
    return page.is_file() and PAGE_SIGNATURE.encode() in page.read_bytes()


def _describe_evaluation(results: BenchmarkResults) -> str:
    """Describe how the values were obtained; empty if there are none."""
    measured = any(not metric.startswith("judge/") for metric in results.metrics())
    rated = results.judge is not None or bool(results.comparisons)
    methods = (
        ("measured", measured),
        ("judged by a model", rated),
        ("rated by people", bool(results.ratings)),
    )
    return " and ".join(method for method, used in methods if used)


def _radar_charts(results: BenchmarkResults, subject: str) -> list[ComparisonChart]:
    ids = group_by_subject(results)[subject]
    columns = measured_columns(results)
    series = [
        ChartSeries(system, system_color(number), build_cells(results, system, columns, ids))
        for number, system in enumerate(results.systems)
    ]
    svg = comparison_charts.draw_radar_chart(
        columns, series, f"Radar of all metrics, {subject.lower()}"
    )
    return [ComparisonChart(f"{subject} ({len(ids)} prompts)", svg)] if svg else []


def _bar_charts(results: BenchmarkResults) -> list[ComparisonChart]:
    """Draw a chart per metric with a bar per system, for one and several characters."""
    charts = []
    for column in measured_columns(results):
        groups = [
            (
                subject,
                [
                    ChartSeries(
                        system, system_color(number), build_cells(results, system, [column], ids)
                    )
                    for number, system in enumerate(results.systems)
                ],
            )
            for subject, ids in group_by_subject(results).items()
            if ids
        ]
        charts.append(
            ComparisonChart(
                column.title, comparison_charts.draw_bar_chart(column, groups, column.title)
            )
        )
    return charts


def _style_bar_charts(results: BenchmarkResults) -> list[ComparisonChart]:
    """Draw a chart per judge metric with a group of bars per style pair."""
    table = build_style_table(results)
    colors = {system: system_color(number) for number, system in enumerate(results.systems)}
    charts = []
    for column_index, column in enumerate(table.columns):
        if column.kind != "Judge":
            continue
        groups: dict[str, list[ChartSeries]] = {}
        for row in table.rows:
            groups.setdefault(row.labels[1], []).append(_cell_series(row, column_index, colors))
        title = f"{column.title} by style pair"
        charts.append(
            ComparisonChart(
                column.title, comparison_charts.draw_bar_chart(column, list(groups.items()), title)
            )
        )
    return charts


def _cell_series(row: TableRow, column_index: int, colors: Mapping[str, int]) -> ChartSeries:
    return ChartSeries(row.labels[0], colors[row.labels[0]], (row.cells[column_index],))


def _count_missing_values(results: BenchmarkResults) -> list[tuple[str, str, str, int]]:
    """Count missing values by system, metric and reason."""
    counted = Counter(
        (missing.system, missing.metric, missing.reason) for missing in results.missing_values
    )
    order = {name: number for number, name in enumerate(results.systems)}
    return [
        (*key, count)
        for key, count in sorted(counted.items(), key=lambda item: (order[item[0][0]], item[0]))
    ]
