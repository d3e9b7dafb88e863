"""``mimix dataset import``: take clips and captions that exist already."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.console import FAILED, SettingsArgument, load_settings, print_line, user_errors
from mimix_core.engine.text_escaping import printable_text
from mimix_core.inbox import IngestOutcome, IngestResult, TransferMode
from mimix_core.inbox.clip_import import ClipDefaults, import_clips
from mimix_core.inbox.clip_sources import read_clip_sources


def import_dataset(
    settings: SettingsArgument,
    source: Annotated[
        Path,
        typer.Argument(help="Folder of videos, or a metadata file: .jsonl, .csv or .parquet."),
    ],
    show: Annotated[str, typer.Option(help="Show of the clips whose row does not name one.")] = "",
    character: Annotated[
        list[str] | None,
        typer.Option(help="Character of clips whose row names none; repeatable. Default: all."),
    ] = None,
    group: Annotated[
        str,
        typer.Option(
            help="Column with what clips were cut from; clips of one value are in one split. "
            "Without a value, the clips of one import are."
        ),
    ] = "group",
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder that the videos and captions must be in, with links followed. Default: "
            "that of SOURCE; a row or link that leads elsewhere is refused."
        ),
    ] = None,
    videos: Annotated[
        TransferMode, typer.Option(help="Copy, move or link the videos.")
    ] = TransferMode.COPY,
) -> None:
    """Import clips made elsewhere into a show; `mimix curate` then checks and measures them."""
    with user_errors():
        config = load_settings(settings, None)
        sources = read_clip_sources(source, group, root)
        defaults = ClipDefaults(show, tuple(character or ()), source.resolve().name)
        results = import_clips(
            config.library, sources, defaults, mode=videos, on_result=_print_result
        )
    counts = Counter(result.outcome for result in results)
    print_line(", ".join(f"{counts[outcome]} {outcome.value}" for outcome in IngestOutcome))
    if counts[IngestOutcome.REJECTED] or counts[IngestOutcome.INCOMPLETE]:
        raise typer.Exit(FAILED)


def _print_result(result: IngestResult) -> None:
    if result.outcome is not IngestOutcome.DUPLICATE:
        line = f"{result.outcome.value:<10} {result.path}: {result.detail}"
        print_line(escape(printable_text(line, allowed="")))
