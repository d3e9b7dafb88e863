"""Shared parts of all commands: console, error output, exit codes and common arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mimix_core.errors import BadInput, MimixError
from mimix_core.settings import Config, load_config

console = Console()

SettingsArgument = Annotated[Path, typer.Argument(help="Settings file, e.g. mimix.yaml.")]
WorkspaceOption = Annotated[
    Path | None, typer.Option(help="Workspace folder to use instead of the one in the settings.")
]

BAD_INPUT = 2
FAILED = 1


@contextmanager
def user_errors() -> Iterator[None]:
    """Print MiMix's errors as messages without a traceback, and set the exit code."""
    try:
        yield
    except MimixError as error:
        text = f"[bold red]error[/bold red] {escape(str(error))}"
        Console(stderr=True).print(text, highlight=False, soft_wrap=True)
        raise typer.Exit(BAD_INPUT if isinstance(error, BadInput) else FAILED) from error


def make_table(*columns: str) -> Table:
    """Create a table that folds long words: a path or a command is never cut short."""
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_line(text: str) -> None:
    """Print markup without wrapping, so that a path or a command can be copied."""
    console.print(text, highlight=False, soft_wrap=True)


def load_settings(settings: Path, workspace: Path | None) -> Config:
    """Load the settings file, with another workspace if one is given."""
    config = load_config(settings)
    if workspace is None:
        return config
    return config.model_copy(update={"workspace": workspace.resolve()})
