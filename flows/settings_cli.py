"""``mimix settings``: all settings with their defaults and meanings."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from flows.console import console, make_table, user_errors
from mimix_core.errors import BadInput
from mimix_core.settings.settings_reference import format_settings_page, settings_sections

SETTINGS_COMMAND = "python -m flows.cli settings --markdown > docs/settings.md"


def settings(
    section: Annotated[
        str | None, typer.Argument(help="A section such as clips. Default: all sections.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/settings.md.")
    ] = False,
) -> None:
    """List all settings with their defaults and meanings."""
    if markdown:
        typer.echo(format_settings_page(SETTINGS_COMMAND), nl=False)
        return
    with user_errors():
        sections = settings_sections()
        selected = [one for one in sections if section in (None, one.name)]
        if not selected:
            names = ", ".join(one.name for one in sections if one.name)
            raise BadInput(f"no section {section}", fix=f"Sections: {names}.")
    table = make_table("key", "default", "meaning")
    for one in selected:
        for entry in one.entries:
            default = entry.default or "required"
            table.add_row(escape(entry.key), escape(default), escape(entry.description))
    console.print(table)
