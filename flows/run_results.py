"""Say at the end of a run where its results are, and which stages failed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from flows.console import print_line

if TYPE_CHECKING:
    from tasks.run_summary import RunSummary, StageTotals


def print_results(settings: Path, summary: RunSummary) -> None:
    """Say where the adapters and the generated videos of a run are."""
    for folder in summary.adapter_folders:
        print_line(f"Adapter: {escape(str(folder))}")
    if summary.adapter_folders:
        export = f"mimix lora export {shlex.quote(str(settings))} --to NAME.safetensors"
        print_line(f"Export it for ComfyUI and others: {escape(export)}")
    if summary.video_folder is not None:
        print_line(f"Videos: {escape(str(summary.video_folder))}")


def describe_failure(totals: StageTotals) -> str:
    """Describe a stage of which most rows failed."""
    counts = totals.counts
    units = f" (mostly in {', '.join(totals.mostly_failed)})" if totals.mostly_failed else ""
    reasons = ", ".join(f"{reason} {count}" for reason, count in totals.reasons.items())
    return (
        f"[bold red]failed[/bold red] {totals.stage}: {counts.failed} of {counts.rows_in} rows "
        f"failed{escape(units)}: {escape(reasons)}"
    )
