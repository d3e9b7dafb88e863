"""``mimix decisions``: list, export and import what people decided in the studio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.console import SettingsArgument, console, print_line, user_errors
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.engine.input_files import read_utf8_text
from mimix_core.errors import BadInput
from mimix_core.project.item_decisions import (
    DecisionLog,
    format_decision_lines,
    parse_decision_lines,
    read_item_decisions,
)
from mimix_core.project.named_tracks import convert_old_names, is_old_table
from mimix_core.settings import load_config

app = typer.Typer(
    name="decisions",
    help="List, export and import the decisions made in the studio.",
    no_args_is_help=True,
)


@app.command("list")
def list_decisions(settings: SettingsArgument) -> None:
    """Count the decisions that count now, by kind and by person."""
    with user_errors():
        config = load_config(settings)
        ledger = read_item_decisions(config.decisions)
    counts: Counter[tuple[str, str, str]] = Counter()
    for (kind, _), state in ledger.states().items():
        for one in state.decisions:
            counts[kind.value, one.action.value, one.reviewer] += 1
    for (name, action, reviewer), count in sorted(counts.items()):
        print_line(f"  {name:<10} {action:<8} {count:>6}  {escape(reviewer)}")
    disputed = sum(state.disputed for state in ledger.states().values())
    print_line(f"{len(ledger.by_id)} lines in {escape(str(config.decisions))}")
    if disputed:
        print_line(f"{disputed} items on which people disagree: `mimix studio` shows them")


@app.command("export")
def export_decisions(
    settings: SettingsArgument,
    target: Annotated[Path, typer.Argument(help="File to write, in JSON lines.")],
) -> None:
    """Write all decisions to a file, the earliest first; an earlier export is replaced."""
    with user_errors():
        own = load_config(settings).decisions
        ledger = read_item_decisions(own)
        _check_target(target, own, ledger.by_id)
        atomic_write_bytes(target, format_decision_lines(ledger.by_id.values()).encode())
    print_line(f"{len(ledger.by_id)} decisions written to {escape(str(target))}")


@app.command("import")
def import_decisions(
    settings: SettingsArgument,
    sources: Annotated[list[Path], typer.Argument(help="Exported files, or those of others.")],
) -> None:
    """Add the decisions of other files; of two on one item, the later one counts."""
    with user_errors():
        decisions = []
        for source in sources:
            text = _read_text(source)
            decisions += (
                convert_old_names(source)
                if is_old_table(text)
                else parse_decision_lines(text, source)
            )
        log = DecisionLog(load_config(settings).decisions)
        added = log.import_lines(decisions)
    console.print(f"{added} decisions added, {len(decisions) - added} were there already.")


def _check_target(target: Path, own: Path, known: Collection[str]) -> None:
    """Raise BadInput unless replacing ``target`` loses nothing: it is new, or has known decisions.

    ``own``: the file of the decisions with the ids ``known``.
    """
    if not target.exists():
        return
    if own.exists() and target.samefile(own):
        raise BadInput(
            "is the file of the decisions itself", where=str(target), fix="Give another path."
        )
    try:
        earlier = parse_decision_lines(_read_text(target), target)
    except BadInput as error:
        raise BadInput(
            "already exists, and is not an export of decisions",
            where=str(target),
            fix="Give the path of a new file.",
        ) from error
    others = sum(decision.decision_id not in known for decision in earlier)
    if others:
        raise BadInput(
            f"already exists, with {others} decisions that {own} does not have",
            where=str(target),
            fix="Import it first, or give the path of a new file.",
        )


def _read_text(path: Path) -> str:
    """Read a file of decisions. Raises BadInput for one that is missing or is not text."""
    if not path.is_file():
        what = "is not a file" if path.exists() else "no such file"
        raise BadInput(what, where=str(path), fix="Check the path.")
    return read_utf8_text(path)
