"""What all commands share: where they print, how errors reach a person, their usual arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mimix_core.errors import BadInput, MimixError
from mimix_core.settings import Config, load_config

console = Console()

SettingsArgument = Annotated[Path, typer.Argument(help="The settings file, e.g. mimix.yaml.")]
WorkspaceOption = Annotated[
    Path | None, typer.Option(help="Put all results here instead of where the settings say.")
]

BAD_INPUT = 2
FAILED = 1


@contextmanager
def user_errors() -> Iterator[None]:
    """What a person can mend is told in words, not in a traceback."""
    try:
        yield
    except MimixError as error:
        said = f"[bold red]error[/bold red] {escape(str(error))}"
        Console(stderr=True).print(said, highlight=False, soft_wrap=True)
        raise typer.Exit(BAD_INPUT if isinstance(error, BadInput) else FAILED) from error


def load_settings(settings: Path, workspace: Path | None) -> Config:
    """The settings, with another workspace when one is given."""
    config = load_config(settings)
    if workspace is None:
        return config
    return config.model_copy(update={"workspace": workspace.resolve()})
