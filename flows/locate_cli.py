"""``mimix locate``: try the locators on a few frames before the whole run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from flows import prefect_environment
from flows.console import SettingsArgument, WorkspaceOption, load_settings, print_line, user_errors

app = typer.Typer(name="locate", help="Try the locators of characters.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """Try the locators of characters."""


@app.command()
def preview(
    settings: SettingsArgument,
    episodes: Annotated[
        list[str] | None,
        typer.Argument(help="Names of episodes. Default: the first two of each show."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, max=60, help="Frames per episode.")] = 6,
    workspace: WorkspaceOption = None,
) -> None:
    """Show a few frames with the boxes found in them and their distances to the references."""
    with user_errors():
        prefect_environment.configure_prefect()
        from flows.locator_trial import preview_episodes, select_episodes, trial_workspace

        config = load_settings(settings, workspace)
        out = config.workspace / "locate"
        with trial_workspace(config) as trial:
            preview_episodes(trial, select_episodes(trial, episodes or []), frames, out)
    print_line(f"The pictures are in {escape(str(out))}")
