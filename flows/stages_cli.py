"""``mimix stages``: list all stages of the pipeline."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from flows.console import console, make_table, user_errors
from mimix_core.engine.registry import pipeline_stages
from mimix_core.engine.stage import Resource, Stage

COMMAND = "python -m flows.cli stages --markdown > docs/stages.md"


def stages(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/stages.md.")
    ] = False,
) -> None:
    """List all stages in pipeline order with their phase, resources and purpose."""
    with user_errors():
        ordered = pipeline_stages()
    if markdown:
        typer.echo(format_stages_page(ordered), nl=False)
        return
    table = make_table("name", "title", "phase", "resources", "what it does")
    for stage in ordered:
        table.add_row(
            stage.name,
            escape(stage.title),
            stage.phase.value,
            _format_resources(stage),
            escape(stage.description),
        )
    console.print(table)


def format_stages_page(ordered: list[Stage[Any, Any]]) -> str:
    """Format the stages as the Markdown page docs/stages.md."""
    rows = [
        f"| `{stage.name}` | {stage.title} | {stage.phase.value} | {_format_resources(stage)} "
        f"| {', '.join(f'`{name}`' for name in stage.upstream)} | {stage.description} |"
        for stage in ordered
    ]
    lines = [
        "# Stages",
        "",
        "All stages in pipeline order. This page is generated from the code:",
        "",
        f"    {COMMAND}",
        "",
        "| name | title | phase | resources | input tables from | what it does |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def _format_resources(stage: Stage[Any, Any]) -> str:
    return ", ".join(resource.value for resource in Resource if resource in stage.resources)
