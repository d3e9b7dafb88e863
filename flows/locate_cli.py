"""``mimix locate``: try the locators on a few frames, and frames to read boxes from by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated

import typer
from rich.markup import escape

from flows import prefect_environment
from flows.console import SettingsArgument, WorkspaceOption, load_settings, print_line, user_errors
from mimix_core.domain.timeline import parse_seconds
from mimix_core.errors import BadInput

app = typer.Typer(
    name="locate",
    help="Try the locators of characters, or draw boxes by hand.",
    no_args_is_help=True,
)


@app.callback()
def main() -> None:
    """Try the locators of characters, or draw boxes by hand."""


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


@app.command()
def frames(
    settings: SettingsArgument,
    episode: Annotated[str, typer.Argument(help="Name of the episode.")],
    start: Annotated[
        str, typer.Option(help="Time of the first frame: seconds or h:mm:ss.s.")
    ] = "0",
    end: Annotated[
        str | None, typer.Option(help="Time at which to stop. Default: the episode's end.")
    ] = None,
    every: Annotated[
        str, typer.Option(help="Seconds between frames; boxes are interpolated over 3 at most.")
    ] = "2.5",
    workspace: WorkspaceOption = None,
) -> None:
    """Write frames of an episode with a grid of coordinates, to read boxes for a boxes file."""
    with user_errors():
        first, interval = _parse_time("--start", start), _parse_time("--every", every)
        last = None if end is None else _parse_time("--end", end)
        if interval <= 0:
            raise BadInput("--every 0 is no interval", fix="Give the seconds between two frames.")
        prefect_environment.configure_prefect()
        from flows.locator_trial import (
            draw_episode_grids,
            episode_boxes,
            select_episodes,
            trial_workspace,
        )

        config = load_settings(settings, workspace)
        with trial_workspace(config) as trial:
            for show, found in select_episodes(trial, [episode]):
                locator = episode_boxes(show.with_cast_of(found.path.name), found)
                folder = config.workspace / "locate" / f"{show.id}-{found.path.stem}"
                count = draw_episode_grids(found, locator, (first, last, interval), folder)
                if not count:
                    raise BadInput(
                        f"{found.path.name} has no frame from {start} to {end or 'its end'}"
                    )
                print_line(
                    f"{count} frames of {escape(found.path.name)} are in {escape(str(folder))}"
                )


def _parse_time(option: str, text: str) -> Fraction:
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise BadInput(str(error), where=option) from error
