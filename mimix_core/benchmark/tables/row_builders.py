"""Build rows of tables: prompts by subject, columns with values, and cells of a system."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from mimix_core.benchmark.tables.load_results import BenchmarkResults
from mimix_core.benchmark.tables.metric_columns import MetricColumn, paper_columns
from mimix_core.benchmark.tables.paper_results import load_paper_results
from mimix_core.benchmark.tables.table_model import ResultTable, TableCell, TableRow, mean_cell
from mimix_core.domain.prompts import VideoPrompt

SINGLE, MULTIPLE = "Single", "Multiple"


def group_by_subject(results: BenchmarkResults) -> dict[str, list[str]]:
    """Group prompt ids by one and several characters."""
    groups: dict[str, list[str]] = {SINGLE: [], MULTIPLE: []}
    for prompt in results.prompts.prompts:
        groups[SINGLE if len(prompt.characters) == 1 else MULTIPLE].append(prompt.id)
    return groups


def build_cells(
    results: BenchmarkResults,
    system: str,
    columns: Sequence[MetricColumn],
    ids: Collection[str],
    compared: Collection[str] | None = None,
) -> tuple[TableCell, ...]:
    """Build a system's cells of these columns over the prompts ``ids``.

    A mean is over the same prompts for all ``compared`` systems, by default all systems: those of
    which each system with any value has one.
    """
    names = results.systems if compared is None else compared
    cells = []
    for column in columns:
        by_system = [results.values.get((name, column.metric), {}) for name in names]
        rated = [own for values in by_system if (own := values.keys() & set(ids))]
        common = set.intersection(*rated) if rated else set()
        values = results.values.get((system, column.metric), {})
        cells.append(mean_cell({key: value for key, value in values.items() if key in common}, ids))
    return tuple(cells)


def measured_columns(results: BenchmarkResults) -> tuple[MetricColumn, ...]:
    """Return the columns of Tables 1 and 2 for which any system has a value or a failure."""
    metrics = set(results.metrics())
    paper = load_paper_results()
    keys = dict.fromkeys((*paper.table_1.columns, *paper.table_2.columns))
    found = [column for column in paper_columns(keys) if column.metric in metrics]
    return tuple(sorted(found, key=lambda column: column.kind != "VBench"))


def build_subject_table(
    results: BenchmarkResults,
    key: str,
    title: str,
    description: str,
    columns: tuple[MetricColumn, ...],
) -> ResultTable:
    """Build a table with one row per system and subject (one or several characters)."""
    rows = [
        TableRow((system, subject), build_cells(results, system, columns, ids))
        for subject, ids in group_by_subject(results).items()
        for system in results.systems
        if ids
    ]
    return ResultTable(key, title, description, ("System", "Subject"), columns, tuple(rows))


def build_breakdown_table(
    results: BenchmarkResults,
    key: str,
    title: str,
    description: str,
    header: str,
    parts: Callable[[VideoPrompt], Collection[str]],
    order: Sequence[str],
) -> ResultTable:
    """Build a table with one row per system and part.

    ``parts``: the parts of a prompt; those in ``order`` come first, in that order.
    """
    members: dict[str, list[str]] = {part: [] for part in order}
    for prompt in results.prompts.prompts:
        for part in parts(prompt):
            members.setdefault(part, []).append(prompt.id)
    columns = measured_columns(results)
    rows = [
        TableRow((system, f"{part} ({len(ids)})"), build_cells(results, system, columns, ids))
        for part, ids in members.items()
        if ids
        for system in results.systems
    ]
    return ResultTable(key, title, description, ("System", header), columns, tuple(rows))
