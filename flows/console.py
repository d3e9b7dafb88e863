"""Shared parts of all commands: console, error output, exit codes and common arguments."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mimix_core.errors import BadInput, DiskFull, MimixError, is_disk_full
from mimix_core.settings import Config, load_config
from tasks.safe_console import SafeConsole

console = SafeConsole()

SettingsArgument = Annotated[Path, typer.Argument(help="Settings file, e.g. mimix.yaml.")]
WorkspaceOption = Annotated[
    Path | None, typer.Option(help="Workspace folder to use instead of the one in the settings.")
]

_NOT_PERMITTED = (errno.EACCES, errno.EPERM, errno.EROFS)
_UNUSABLE_PATH = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EBUSY)

BAD_INPUT = 2
FAILED = 1


@contextmanager
def user_errors() -> Iterator[None]:
    """Print MiMix's errors as messages without a traceback, and set the exit code."""
    try:
        yield
    except MimixError as error:
        _print_error(error)
        raise typer.Exit(BAD_INPUT if isinstance(error, BadInput) else FAILED) from error
    except Exception as error:
        if is_disk_full(error):
            _print_error(DiskFull(error))
        elif isinstance(error, OSError) and error.errno in _NOT_PERMITTED:
            _print_error(
                BadInput(
                    f"{error.strerror}",
                    where=str(error.filename or ""),
                    fix="Check owner and mode of the file and its folder, and whether its disk is "
                    "mounted read-only.",
                )
            )
        elif isinstance(error, OSError) and error.errno in _UNUSABLE_PATH:
            # Of a file that was to be replaced, the second name is the one that was asked for.
            path = error.filename2 or error.filename or ""
            _print_error(BadInput(f"{error.strerror}", where=str(path), fix="Give another path."))
            raise typer.Exit(BAD_INPUT) from error
        else:
            raise
        raise typer.Exit(FAILED) from error


@contextmanager
def module_errors() -> Iterator[None]:
    """Print errors as ``user_errors`` does, in a module that is run as a process of its own."""
    try:
        with user_errors():
            yield
    except typer.Exit as ended:
        raise SystemExit(ended.exit_code) from ended


def _print_error(error: MimixError) -> None:
    text = f"[bold red]error[/bold red] {escape(str(error))}"
    SafeConsole(stderr=True).print(text, highlight=False, soft_wrap=True)


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
