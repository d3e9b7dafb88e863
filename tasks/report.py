"""Task ``report``: write the HTML report of a run."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mimix_core.engine import registry
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.stage import run_stage
from mimix_core.stages.report.report_inputs import (
    CharacterSummary,
    ReportInputs,
    ShowSummary,
    UnitSummary,
)
from tasks.base import Run, stage_task

report_task = stage_task("report")


def write_report(run: Run, **tables: TableRef | Sequence[TableRef]) -> Path:
    """Write the report, link ``<workspace>/report`` to it, and return the path of its page.

    ``tables``: fields of ``ReportInputs``.
    """
    inputs = build_report_inputs(run, tables)
    return link_report(run, run.run_single(report_task, inputs, run.workspace.config.report))


def write_report_so_far(run: Run, **tables: TableRef | Sequence[TableRef]) -> Path:
    """Write the report of the stages that have run, in this process, without a Prefect server."""
    stage = registry.get_stage(str(report_task.name))
    inputs = build_report_inputs(run, tables)
    result = run_stage(run.workspace.store, stage, inputs, run.workspace.config.report)
    return link_report(run, result.ref)


def build_report_inputs(
    run: Run, tables: Mapping[str, TableRef | Sequence[TableRef]]
) -> ReportInputs:
    """Build the stage's inputs from the run's tables, records and library."""
    workspace = run.workspace
    shows = tuple(
        ShowSummary(
            id=show.id,
            title=show.title,
            style=show.style,
            characters=tuple(
                CharacterSummary(name=c.name, description=c.description) for c in show.characters
            ),
        )
        for show in workspace.library.shows
    )
    records = []
    for refs in run.refs.values():
        for ref in refs:
            record = workspace.store.record(ref)
            records.append(
                UnitSummary(
                    stage=record.stage,
                    unit=record.unit,
                    counts=record.counts,
                    reasons=record.reasons,
                    notes=record.notes,
                )
            )
    values = {
        name: value if isinstance(value, TableRef) else tuple(value)
        for name, value in tables.items()
    }
    return ReportInputs.model_validate(
        {
            "title": ", ".join(show.title for show in shows),
            "shows": shows,
            "records": tuple(records),
            "frame_rate": workspace.config.clips.frame_rate,
            **values,
        }
    )


def link_report(run: Run, table: TableRef) -> Path:
    """Link ``<workspace>/report`` to a report and return the path of its page."""
    latest = run.workspace.config.workspace / "report"
    _replace_symlink(latest, table.folder)
    return latest / "index.html"


def _replace_symlink(link: Path, target: Path) -> None:
    """Make ``link`` a symbolic link to ``target``, replacing an existing link atomically."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    # Relative, so that it still leads to the report when the workspace is moved.
    relative = os.path.relpath(target.resolve(), link.parent.resolve())
    temporary.symlink_to(relative, target_is_directory=True)
    temporary.replace(link)
