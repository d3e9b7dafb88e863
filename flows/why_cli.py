"""``mimix why``: say why rows were rejected or failed, and what happened to one episode or clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer
from rich.markup import escape

from flows.console import SettingsArgument, WorkspaceOption, print_line, user_errors
from mimix_core import tables
from mimix_core.domain.timeline import format_time
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.registry import get_stage, stage_names
from mimix_core.engine.row_reasons import summarize_reasons
from mimix_core.errors import BadInput
from mimix_core.tables import Reason, Row, Status
from tasks.console_progress import format_reasons
from tasks.run_summary import sum_counts


def why(
    settings: SettingsArgument,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STAGE] [EPISODE|CLIP]",
            help="A stage, an episode (name or id), a clip, or any other id of a row. "
            "Default: the reasons of every stage.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Say why rows were rejected or failed, with the figures, and what became of one item."""
    with user_errors():
        stage, item = _parse_names(names or [])
        from flows.cached_results import collect_cached_results

        results = collect_cached_results(settings, workspace)
        refs = {name: found for name, found in results.run.refs.items() if stage in (None, name)}
        if stage is not None and not refs:
            raise results.stopped_at or BadInput(f"no results of stage {stage}")
        if item is None:
            _print_stages(refs, show_all=stage is not None)
        else:
            ids = {episode.name: episode.id for episode in results.run.workspace.episodes}
            _print_item(refs, item, ids, _clip_times(results.run.refs.get("clips", ())))
    if results.stopped_at is not None and stage is None:
        print_line(f"Later stages have not run: {results.stopped_at}")


def _parse_names(names: Sequence[str]) -> tuple[str | None, str | None]:
    """Split the arguments into a stage and an item. Raises BadInput for more than that."""
    known = stage_names()
    stage = next((name for name in names[:1] if name in known or _is_extension(name)), None)
    items = list(names) if stage is None else list(names[1:])
    if len(items) > 1:
        raise BadInput(
            f"{items[0]} is not a stage" if stage is None else "only one episode or clip at a time",
            fix=f"Stages: {', '.join(known)}.",
        )
    return stage, items[0] if items else None


def _is_extension(name: str) -> bool:
    """Return whether a name is the dotted name of a stage from outside MiMix."""
    try:
        return "." in name and bool(get_stage(name))
    except (ImportError, AttributeError, AssertionError):
        return False


def _print_stages(refs: Mapping[str, Sequence[TableRef]], *, show_all: bool) -> None:
    for stage, found in refs.items():
        counts = sum_counts([ref.counts for ref in found])
        print_line(
            f"[bold]{escape(stage)}[/bold]: {counts.rows_in} {get_stage(stage).row_noun} in, "
            f"{counts.ok} ok, {counts.rejected} rejected, {counts.failed} failed"
        )
        reasons = summarize_reasons(found)
        for line in format_reasons(reasons, len(reasons) if show_all else 3):
            print_line(escape(line))
        if show_all and reasons:
            known = dict.fromkeys(one.reason for one in reasons if one.reason in set(Reason))
            print_line(f"What they mean and what to do: mimix reasons {' '.join(known)}")
        if show_all and len(found) > 1:
            _print_units(found)


def _print_units(refs: Sequence[TableRef]) -> None:
    """Print the most common reason of every unit with rejected or failed rows."""
    print_line("by episode:")
    for ref in refs:
        counts = ref.counts
        reasons = summarize_reasons([ref])
        text = f"; {reasons[0].rows} {reasons[0].describe()}" if reasons else ""
        print_line(escape(f"  {ref.unit}: {counts.ok} of {counts.rows_in} ok{text}"))


def _clip_times(refs: Sequence[TableRef]) -> dict[str, Fraction]:
    """Read where in its episode each clip, or scene without one, begins: seconds by id."""
    columns = ["clip_id", "start_num", "start_den", "origin_pts", "time_base_num", "time_base_den"]
    times = {}
    for ref in refs:
        for row in pq.read_table(ref.path, columns=columns).to_pylist():
            origin = row["origin_pts"] * Fraction(row["time_base_num"], row["time_base_den"])
            times[row["clip_id"]] = Fraction(row["start_num"], row["start_den"]) - origin
    return times


def _print_item(
    refs: Mapping[str, Sequence[TableRef]],
    item: str,
    episode_ids: Mapping[str, str],
    times: Mapping[str, Fraction],
) -> None:
    """Print the outcome of an episode's units or of all rows about one id. Raises BadInput."""
    wanted = {item, episode_ids.get(item, item)}
    found = 0
    for stage, stage_refs in refs.items():
        table = get_stage(stage).table
        for ref in stage_refs:
            is_unit = ref.unit in wanted
            for row in _rows_about(tables.read(ref.path, table), table, wanted, all_rows=is_unit):
                found += 1
                print_line(f"[bold]{escape(stage):<12}[/bold] {_format_row(row, table.id, times)}")
    if not found:
        raise BadInput(
            f"no row about {item} in the results of {', '.join(refs) or 'any stage'}",
            fix=f"Episodes: {', '.join(episode_ids)}. `mimix why SETTINGS STAGE EPISODE` lists the "
            "ids of an episode's rows.",
        )


def _rows_about(
    rows: Sequence[Any], table: tables.Table[Any], wanted: set[str], *, all_rows: bool
) -> Iterator[Row]:
    """Yield the rows with one of the names in any column of ids."""
    columns = [
        name for name in table.schema.names if name == table.id or name.endswith(("_id", "show"))
    ]
    for row in rows:
        if all_rows or any(row[name] in wanted for name in columns):
            yield row


def _format_row(row: Row, id_column: str, times: Mapping[str, Fraction]) -> str:
    text = escape(str(row[id_column]))
    time = _episode_time(row, id_column, times)
    if time is not None:
        text += f" at {format_time(time)}"
    if row["status"] == Status.OK:
        return f"{text}  [green]ok[/green]"
    color = "red" if row["status"] == Status.FAILED else "yellow"
    detail = f": {row['detail']}" if row["detail"] else ""
    return f"{text}  [{color}]{row['status']}[/] {escape(row['reason'] + detail)}"


def _episode_time(row: Row, id_column: str, times: Mapping[str, Fraction]) -> Fraction | None:
    """Return where in its episode a row's clip or scene begins; None if it is about neither."""
    if id_column == "scene_id" and "start_pts" in row:
        ticks: int = row["start_pts"] - row["origin_pts"]
        return ticks * Fraction(row["time_base_num"], row["time_base_den"])
    for column in (id_column, "clip_id", "background_clip_id"):
        if row.get(column) in times:
            return times[row[column]]
    return None
