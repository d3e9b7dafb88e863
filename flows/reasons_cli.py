"""``mimix reasons``: say what each reason of a rejected or failed row means and what to do."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from flows.console import print_line
from mimix_core.tables import Reason
from mimix_core.tables.reason_guide import REASON_GUIDES, ReasonGuide

COMMAND = "python -m flows.cli reasons --markdown > docs/reasons.md"


def reasons(
    names: Annotated[
        list[Reason] | None, typer.Argument(metavar="[REASON]...", help="Default: all.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/reasons.md.")
    ] = False,
) -> None:
    """Say what the reasons of rejected and failed rows mean, and what to do about them."""
    if markdown:
        typer.echo(format_reasons_page(), nl=False)
        return
    for reason in names or REASON_GUIDES:
        print_line(f"[bold]{reason.value}[/bold]: {escape(REASON_GUIDES[reason].label)}")
        print_line(f"  {escape(format_advice(REASON_GUIDES[reason]))}")


def format_advice(guide: ReasonGuide) -> str:
    """Format the advice with the settings that decide, without Markdown."""
    advice = guide.advice.replace("`", "")
    return f"{advice} Settings: {', '.join(guide.settings)}." if guide.settings else advice


def format_reasons_page() -> str:
    """Format the guides as the Markdown page docs/reasons.md."""
    rows = [
        f"| `{reason.value}` | {guide.label} | {guide.advice} "
        f"| {', '.join(f'`{key}`' for key in guide.settings)} |"
        for reason, guide in REASON_GUIDES.items()
    ]
    lines = [
        "# Reasons",
        "",
        "Every row that was rejected or failed has one of these reasons; its `detail` has figures.",
        "`mimix why mimix.yaml` counts them, and `mimix reasons` prints this list in the shell.",
        "This page is generated from the code:",
        "",
        f"    {COMMAND}",
        "",
        "| reason | meaning | what to do | settings that decide |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
    return "\n".join(lines) + "\n"
