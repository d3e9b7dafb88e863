"""``mimix characters``: who is who: exemplars, look-alikes, tracks to name, and whom to add."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows import prefect_environment
from flows.console import SettingsArgument, WorkspaceOption, load_settings, print_line, user_errors
from flows.voices_cli import name_line, voices
from mimix_core.engine.text_escaping import escape_spreadsheet
from mimix_core.errors import BadInput

if TYPE_CHECKING:
    from mimix_core.characters.bank import CharacterBank

app = typer.Typer(
    name="characters",
    help="Show who looks and sounds like whom, name tracks and lines, add to an adapter.",
    no_args_is_help=True,
)


app.command("voices")(voices)
app.command("name-line")(name_line)


@app.callback()
def main() -> None:
    """Show who looks and sounds like whom, name tracks and lines, add to an adapter."""


@app.command()
def show(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """Show the exemplars of each character and the limits calibrated from them."""
    with user_errors():
        prefect_environment.configure_prefect()
        from flows.locator_trial import trial_workspace
        from mimix_core.diagnostics.look_alikes import load_library_bank

        with trial_workspace(load_settings(settings, workspace)) as trial:
            for one in trial.library.shows:
                print_line(f"[bold]{escape(one.title)}[/bold]")
                _print_bank(
                    load_library_bank(
                        trial.library, trial.config.decisions, trial.config.workspace, [one.id]
                    )
                )


@app.command("look-alikes")
def look_alikes(
    settings: SettingsArgument,
    table: Annotated[
        Path | None, typer.Option("--csv", help="Also write all pairs to this CSV file.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Compare the characters of all shows, and name pairs nearer than one is to itself."""
    with user_errors():
        prefect_environment.configure_prefect()
        from flows.locator_trial import trial_workspace
        from mimix_core.diagnostics.look_alikes import ADVICE, load_library_bank

        with trial_workspace(load_settings(settings, workspace)) as trial:
            pairs = load_library_bank(
                trial.library, trial.config.decisions, trial.config.workspace
            ).look_alikes()
        if table is not None:
            with table.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(
                    ["first", "second", "similarity", "own_first", "own_second", "alarm"]
                )
                for pair in pairs:
                    own = ["" if value is None else value for value in pair.own]
                    names = map(escape_spreadsheet, (pair.first, pair.second))
                    row = [*names, pair.similarity, *own, int(pair.alarming)]
                    writer.writerow(row)
        for pair in pairs:
            text = f"{pair.first} and {pair.second}: {pair.similarity:.2f}"
            print_line(f"[red]{escape(text)}[/red]" if pair.alarming else escape(text))
        alarms = [pair for pair in pairs if pair.alarming]
        if alarms:
            print_line(
                f"In red: two exemplars of different characters are more alike than two of one. "
                f"{ADVICE}"
            )


@app.command()
def propose(
    settings: SettingsArgument,
    places: Annotated[
        int, typer.Option(min=1, max=500, help="Places looked at in each episode.")
    ] = 24,
    workspace: WorkspaceOption = None,
) -> None:
    """Write pictures of tracks that are nearly somebody, grouped by looks, for naming."""
    with user_errors():
        prefect_environment.configure_prefect()
        from flows.character_proposals import propose_tracks
        from flows.locator_trial import trial_workspace
        from mimix_core.characters.proposals import save_proposals
        from mimix_core.project.named_tracks import PROPOSALS, characters_folder

        config = load_settings(settings, workspace)
        out = characters_folder(config.workspace) / PROPOSALS
        tracks = []
        with trial_workspace(config) as trial:
            for one in trial.library.shows:
                found = propose_tracks(trial, one, places, out)
                if found is None:
                    print_line(
                        f"{escape(one.title)}: not searched, its locator is not embedding "
                        "(docs/characters.md)"
                    )
                    continue
                tracks += found
        out.mkdir(parents=True, exist_ok=True)
        save_proposals(out, tracks)
        for track in tracks:
            reason = f": {track.problem}" if track.problem else ""
            print_line(
                f"{escape(track.show)}/{track.group}  {escape(track.track_id)}  "
                f"{escape(track.guess)}? {track.similarity:.2f}{escape(reason)}"
            )
        print_line(f"{len(tracks)} tracks; their pictures are in {escape(str(out))}")


@app.command()
def name(
    settings: SettingsArgument,
    tracks: Annotated[list[str], typer.Argument(help="Ids of tracks, or groups as SHOW/NUMBER.")],
    character: Annotated[str, typer.Option("--as", help="Whom they show.")] = "",
    no_one: Annotated[
        bool, typer.Option("--no-one", help="They show none of the cast; withdraws a name.")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Record whom proposed tracks show: their crops become exemplars of the character."""
    with user_errors():
        if bool(character) == no_one:
            raise BadInput("say whom the tracks show", fix="Give --as NAME, or --no-one.")
        prefect_environment.configure_prefect()
        from flows.locator_trial import trial_workspace
        from mimix_core.characters.proposals import load_proposals, select_tracks
        from mimix_core.domain.character_names import alias_map
        from mimix_core.project.item_decisions import DecisionLog
        from mimix_core.project.named_tracks import (
            PROPOSALS,
            characters_folder,
            name_decision,
            track_item,
        )

        config = load_settings(settings, workspace)
        folder = characters_folder(config.workspace) / PROPOSALS
        selected = select_tracks(load_proposals(folder), tracks)
        with trial_workspace(config) as trial:
            shows = {one.id: one for one in trial.library.shows}
        for show_id in sorted({track.show for track in selected}):
            if show_id not in shows:
                raise BadInput(f"the library has no show {show_id}", fix="Propose tracks again.")
            names = alias_map(shows[show_id].roster(), shows[show_id].aliases())
            known = names.get(character.casefold(), "")
            if character and not known:
                raise BadInput(
                    f"{show_id} has no character {character!r}",
                    fix=f"Known: {', '.join(sorted(set(names.values())))}.",
                )
            named = [
                name_decision(
                    config.workspace,
                    track_item(show_id, track.track_id),
                    [folder / crop for crop in track.crops],
                    known,
                )
                for track in selected
                if track.show == show_id
            ]
            DecisionLog(config.decisions).append(named)
            whom = escape(known) if known else "none of the cast"
            print_line(
                f"{len(named)} tracks of {escape(show_id)} show {whom}; only cutouts of episodes "
                "that name the character are made again"
            )


@app.command()
def add(
    settings: SettingsArgument,
    characters: Annotated[list[str], typer.Argument(help="Characters to add, by name.")],
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            help="Adapter to add them to: its file, or the workspace of the run that trained it.",
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Settings file to write; by default named by the characters."),
    ] = None,
    replay_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of all other samples to train on again.")
    ] = 0.25,
    max_steps_share: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="Most steps, as a share of training on all again."),
    ] = 0.3,
    max_forgetting: Annotated[
        float,
        typer.Option(
            help="Most that an old character's held-out loss may rise (0.02: 2 %); -1: no bound."
        ),
    ] = 0.02,
) -> None:
    """Write the settings of a training that adds characters to an adapter, without training."""
    with user_errors():
        prefect_environment.configure_prefect()
        from flows.character_addition import AdditionOptions, add_characters, describe
        from mimix_core.domain.character_names import slugify

        named = "-".join(map(slugify, characters))
        target = to or settings.with_name(f"{settings.stem}-{named}{settings.suffix}")
        if target.exists():
            raise BadInput(
                "exists already", where=str(target), fix="Remove it, or choose another with --to."
            )
        options = AdditionOptions(
            Fraction(str(replay_share)),
            max_steps_share,
            None if max_forgetting < 0 else max_forgetting,
        )
        addition = add_characters(settings, characters, source, target, options)
        for line in describe(addition):
            print_line(escape(line))
        print_line(f"{escape(str(target))} is written: `mimix train {escape(str(target))}` trains")


def _print_bank(bank: CharacterBank) -> None:
    for character, vectors in bank.vectors.items():
        own = bank.leave_one_out(character)
        alike = f", alike {min(own):.2f} to {max(own):.2f}" if own else ""
        count = f"{len(vectors)} exemplar{'s' if len(vectors) > 1 else ''}"
        print_line(f"  {escape(character)}: {count}{alike}, limit {bank.limit(character):.2f}")
    if not bank.vectors:
        print_line("  no exemplars: add reference images (docs/characters.md)")
