"""What all sheets are built from: prompts by subject, and the cells of a system."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from mimix_core.benchmark.tables.load_results import Evidence
from mimix_core.benchmark.tables.metric_columns import Measure, measures
from mimix_core.benchmark.tables.paper_results import paper
from mimix_core.benchmark.tables.table_model import Cell, Line, Sheet, cell
from mimix_core.domain.prompts import Prompt

SINGLE, MULTIPLE = "Single", "Multiple"


def subjects(evidence: Evidence) -> dict[str, list[str]]:
    """Prompt ids of one character, and of several."""
    found: dict[str, list[str]] = {SINGLE: [], MULTIPLE: []}
    for prompt in evidence.prompts.prompts:
        found[SINGLE if len(prompt.characters) == 1 else MULTIPLE].append(prompt.id)
    return found


def cells(
    evidence: Evidence, system: str, columns: Sequence[Measure], ids: Collection[str]
) -> tuple[Cell, ...]:
    return tuple(cell(evidence.values.get((system, one.metric), {}), ids) for one in columns)


def measured(evidence: Evidence) -> tuple[Measure, ...]:
    """The columns of Tables 1 and 2 that any system has a value or a failure of."""
    asked = set(evidence.metrics())
    keys = dict.fromkeys((*paper().table_1.columns, *paper().table_2.columns))
    found = [one for one in measures(keys) if one.metric in asked]
    return tuple(sorted(found, key=lambda one: one.kind != "VBench"))


def by_subject(
    evidence: Evidence, key: str, title: str, lead: str, columns: tuple[Measure, ...]
) -> Sheet:
    lines = [
        Line((system, subject), cells(evidence, system, columns, ids))
        for subject, ids in subjects(evidence).items()
        for system in evidence.systems
        if ids
    ]
    return Sheet(key, title, lead, ("System", "Subject"), columns, tuple(lines))


def broken_down(
    evidence: Evidence,
    key: str,
    title: str,
    lead: str,
    head: str,
    parts: Callable[[Prompt], Collection[str]],
    order: Sequence[str],
) -> Sheet:
    """One line per system and part. Parts that are in ``order`` come first, as they stand there."""
    members: dict[str, list[str]] = {part: [] for part in order}
    for prompt in evidence.prompts.prompts:
        for part in parts(prompt):
            members.setdefault(part, []).append(prompt.id)
    columns = measured(evidence)
    lines = [
        Line((system, f"{part} ({len(ids)})"), cells(evidence, system, columns, ids))
        for part, ids in members.items()
        if ids
        for system in evidence.systems
    ]
    return Sheet(key, title, lead, ("System", head), columns, tuple(lines))
