"""``mimix plan``: what a run would compute, why, and about how long; nothing is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows import prefect_environment
from flows.console import SettingsArgument, WorkspaceOption, load_settings, print_line, user_errors
from mimix_core.engine.flow_phases import LAST_PHASE, phases_of_flow
from mimix_core.errors import BadInput
from mimix_core.project.workspace import open_workspace
from tasks.console_progress import format_duration

if TYPE_CHECKING:
    from tasks.base import Run
    from tasks.planned_run import PlannedUnit

MAX_REASONS_SHOWN = 3


def plan(
    settings: SettingsArgument,
    workspace: WorkspaceOption = None,
    flow: Annotated[
        str, typer.Option(help="Plan a run up to this flow: curate, augment, train, generate, ...")
    ] = "mimix",
) -> None:
    """Show what a run would compute, why, and about how long it would take; compute nothing."""
    with user_errors():
        phases = phases_of_flow(flow)
        if not phases:
            raise BadInput(f"no flow {flow}", fix=f"Use one of {', '.join(LAST_PHASE)}.")
        prefect_environment.configure_prefect()
        from flows.cached_results import walk_stages
        from tasks.planned_run import PlannedRun, plan_run

        opened = open_workspace(load_settings(settings, workspace))
        problem: BadInput | None = None

        def walk(run: Run) -> None:
            nonlocal problem
            try:
                walk_stages(run, phases)
            except BadInput as error:
                problem = error

        planned = plan_run(lambda scratch: PlannedRun(opened, scratch=scratch), walk)
    units = planned.units
    for stage in dict.fromkeys(unit.stage for unit in units):
        _print_stage(stage, [unit for unit in units if unit.stage == stage])
    _print_total(units, opened.config.run.max_workers)
    if problem is not None:
        print_line(f"[yellow]Not planned further:[/yellow] {escape(str(problem))}")


def _print_stage(stage: str, units: Sequence[PlannedUnit]) -> None:
    counts = Counter(unit.state for unit in units)
    parts = [f"{counts[state]} {state}" for state in ("cached", "compute", "perhaps")]
    seconds = [unit.seconds for unit in units if unit.state != "cached"]
    known = [one for one in seconds if one is not None]
    time = f"about {format_duration(sum(known))} of work" if known else ""
    if len(known) < len(seconds):
        time = "time unknown: this stage has not run here" if not known else f"{time} or more"
    print_line(f"  [bold]{stage:<12}[/bold] {', '.join(parts):<40} {time}".rstrip())
    reasons: dict[str, list[str]] = {}
    for unit in units:
        if unit.why:
            reasons.setdefault(unit.why, []).append(unit.unit)
    for why, names in list(reasons.items())[:MAX_REASONS_SHOWN]:
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        print_line(escape(f"{'':16}{', '.join(names[:2])}{more}: {why}"))
    if len(reasons) > MAX_REASONS_SHOWN:
        print_line(f"{'':16}{len(reasons) - MAX_REASONS_SHOWN} other reasons")


def _print_total(units: Sequence[PlannedUnit], workers: int) -> None:
    certain = _wall_seconds([unit for unit in units if unit.state == "compute"], workers)
    possible = _wall_seconds([unit for unit in units if unit.state != "cached"], workers)
    unknown = {unit.stage for unit in units if unit.state != "cached" and unit.seconds is None}
    counts = Counter(unit.state for unit in units)
    if counts["cached"] == len(units):
        print_line("Nothing to compute: every unit is cached.")
        return
    text = f"{counts['compute']} units to compute"
    if counts["perhaps"]:
        text += f", {counts['perhaps']} more if rows before them change"
    if possible:
        text += f": about {format_duration(certain)}"
        if possible > certain:
            text += f", at most {format_duration(possible)}"
        text += f" with {workers} at a time"
    if unknown:
        text += f"; without the time of {', '.join(sorted(unknown))}, which have not run here"
    print_line(text + ".")


def _wall_seconds(units: Sequence[PlannedUnit], workers: int) -> float:
    """Estimate wall time: stages run one after the other, units of a stage at the same time."""
    by_stage: dict[str, list[float]] = {}
    for unit in units:
        by_stage.setdefault(unit.stage, []).append(unit.seconds or 0.0)
    return sum(max(*times, sum(times) / workers) for times in by_stage.values())
