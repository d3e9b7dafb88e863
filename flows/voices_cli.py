"""``mimix characters voices`` and ``name-line``: who speaks, and by which voice."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.markup import escape

from flows.console import SettingsArgument, WorkspaceOption, load_settings, print_line, user_errors
from mimix_core import tables
from mimix_core.errors import BadInput

if TYPE_CHECKING:
    from mimix_core.engine.artifacts import TableRef
    from mimix_core.tables import SpeakerRow
    from tasks.cached_run import ReadOnlyRun

_COLUMNS = ("line_id", "speaker", "source", "nearest", "similarity", "limit", "text")


def voices(
    settings: SettingsArgument,
    table: Annotated[
        Path | None, typer.Option("--csv", help="Also write all lines to this CSV file.")
    ] = None,
    unnamed: Annotated[
        bool, typer.Option("--unnamed", help="Only lines whose speaker is not known.")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Show who speaks each line, by the decisions of now, and the limits of the voices."""
    with user_errors():
        from mimix_core.stages import speakers
        from tasks.voices import speaker_inputs

        run, refs = _voice_tables(settings, workspace)
        rows: list[SpeakerRow] = []
        for episode, inputs in zip(run.workspace.episodes, speaker_inputs(run, refs), strict=True):
            report = speakers.run(inputs, run.workspace.config.speakers, Path())
            spoken, notes = cast("list[SpeakerRow]", report.rows), report.notes
            known = ", ".join(
                f"{name} {notes[f'exemplars_of_{name}']} (limit {notes[f'limit_of_{name}']:.2f})"
                for name in episode.show.roster()
                if f"limit_of_{name}" in notes
            )
            exemplars = escape(known) or "no voice is known (docs/voices.md)"
            print_line(f"[bold]{escape(episode.name)}[/bold]  exemplars: {exemplars}")
            shown = [row for row in spoken if not (unnamed and row["speaker"])]
            for row in shown:
                print_line(f"  {escape(_describe(row))}")
            rows += shown
        if table is not None:
            with table.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(dict(row) for row in rows)
        named = sum(bool(row["speaker"]) for row in rows)
        print_line(f"{len(rows)} lines, {named} of them spoken by a known character")


def name_line(
    settings: SettingsArgument,
    lines: Annotated[list[str], typer.Argument(help="Ids of lines, as `voices` prints them.")],
    character: Annotated[str, typer.Option("--as", help="Who speaks them.")] = "",
    no_one: Annotated[
        bool, typer.Option("--no-one", help="None of the cast speaks them; withdraws a name.")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Record who speaks lines: they become exemplars of the character's voice."""
    with user_errors():
        if bool(character) == no_one:
            raise BadInput("say who speaks the lines", fix="Give --as NAME, or --no-one.")
        from mimix_core.domain.character_names import alias_map
        from mimix_core.project.dataset_review import current_user
        from mimix_core.project.item_decisions import (
            DecisionAction,
            DecisionLog,
            ItemDecision,
            ItemKind,
        )

        run, refs = _voice_tables(settings, workspace)
        shows = {
            row["line_id"]: episode.show
            for episode, ref in zip(run.workspace.episodes, refs, strict=True)
            for row in tables.read(ref.path, tables.VOICES)
        }
        decisions = []
        for line in dict.fromkeys(lines):
            if line not in shows:
                raise BadInput(
                    f"the last run has no line {line}", fix="`mimix characters voices` lists them."
                )
            names = alias_map(shows[line].roster(), shows[line].aliases())
            known = names.get(character.casefold(), "")
            if character and not known:
                raise BadInput(
                    f"{shows[line].id} has no character {character!r}",
                    fix=f"Known: {', '.join(sorted(set(names.values())))}.",
                )
            decisions.append(
                ItemDecision(
                    reviewer=current_user(),
                    kind=ItemKind.LINE,
                    item=line,
                    action=DecisionAction.NAME,
                    character=known,
                )
            )
        DecisionLog(run.workspace.config.decisions).append(decisions)
        whom = escape(decisions[0].character) or "none of the cast"
        print_line(f"{len(decisions)} lines are spoken by {whom}; no audio is encoded again")


def _voice_tables(settings: Path, workspace: Path | None) -> tuple[ReadOnlyRun, list[TableRef]]:
    """Look up the voices of the last run; one table per episode. Raises BadInput, MissingResult.

    Not who speaks: that depends on decisions, also on those since the last run.
    """
    from flows.caption_results import open_caption_run
    from flows.curate import voice_stages

    if load_settings(settings, workspace).voices.backend == "none":
        raise BadInput(
            "the settings do not ask who speaks",
            where="settings, key voices.backend",
            fix="Set it to wespeaker or spectral-statistics (docs/voices.md), and run "
            "`mimix curate`.",
        )
    run = open_caption_run(settings, workspace)
    return run, voice_stages(run)


def _describe(row: SpeakerRow) -> str:
    who = row["speaker"] or "?"
    why = row["source"]
    if row["similarity"] is not None:
        why = f"{why}: {row['nearest']} {row['similarity']:.2f}, limit {row['limit']:.2f}"
    return f"{row['line_id']}  {who} ({why})  {row['text']}"
